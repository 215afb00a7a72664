/*
 * json.h - a JSON text, validated in full and then walked by its tokens.
 *
 * jsmn is a tokenizer and lets much through that is not JSON (pitfall J1), so a
 * pass of our own over the whole text comes first: RFC 8259 to the letter, valid
 * UTF-8 without a byte order mark, surrogates in pairs, nesting of at most
 * CTKI_JSON_DEPTH. Only a text that passed reaches jsmn. Duplicate keys are
 * legal JSON: whoever reads an object decides.
 *
 * Lines and columns count from 1. A line ends with its line feed; a column is
 * one character (code point), however many bytes it has, a tab among them.
 *
 * Nodes are token indices: >= 0, in the order of the text; the top is node 0.
 */
#ifndef CTKI_JSON_H
#define CTKI_JSON_H

#include "src/base.h"

enum {
    CTKI_JSON_FIELD_BYTES = 80,  /* a field in an error, its end included; longer ones lose their middle */
    CTKI_JSON_REASON_BYTES = 112 /* a reason, its end included */
};

typedef enum {
    CTKI_JSON_OBJECT,
    CTKI_JSON_ARRAY,
    CTKI_JSON_STRING,
    CTKI_JSON_NUMBER,
    CTKI_JSON_TRUE,
    CTKI_JSON_FALSE,
    CTKI_JSON_NULL
} ctki_json_kind_t;

/* What is wrong and where. field is a path as in Servers."2".Bind or
 * PidList[3]; "(top level)" where there is none. */
typedef struct {
    size_t offset; /* in bytes from the start of the text */
    char field[CTKI_JSON_FIELD_BYTES];
    char reason[CTKI_JSON_REASON_BYTES];
} ctki_json_fault_t;

typedef struct {
    const char *text; /* borrowed */
    size_t size;
    void *tokens; /* jsmn's own type is known to json.c alone */
    int count;
} ctki_json_t;

/* Whether the text is JSON. If so, *tokens (may be NULL) becomes the number of
 * its tokens: values and keys. Else *fault says what is wrong first. */
bool ctki_json_validate (const char *text, size_t size, int *tokens, ctki_json_fault_t *fault);

/* Validates and tokenizes a text whose top level is an object or array; it must
 * outlive *json. 0; -1 and EINVAL (fault is filled in), EFBIG or ENOMEM. */
int ctki_json_init (ctki_json_t *json, const char *text, size_t size, ctki_json_fault_t *fault);
void ctki_json_fini (ctki_json_t *json);

ctki_json_kind_t ctki_json_kind (const ctki_json_t *json, int node);

/* The first child: of an array its first element, of an object its first key
 * (whose value is the node after it: key + 1). -1: there is none. */
int ctki_json_first (const ctki_json_t *json, int node);

/* What follows an element or a key among its siblings; -1: it is the last. */
int ctki_json_next (const ctki_json_t *json, int node);

/* How many elements or members there are. */
int ctki_json_size (const ctki_json_t *json, int node);

/* Where a node begins in the text; a string at its opening quote. */
size_t ctki_json_offset (const ctki_json_t *json, int node);

/* The text of a node as it stands there, a string without its quotes. */
const char *ctki_json_raw (const ctki_json_t *json, int node, size_t *size);

/* Decodes a string or key into out, at most capacity bytes, no end added.
 * Returns its whole size, which may be larger than capacity. */
size_t ctki_json_string (const ctki_json_t *json, int node, char *out, size_t capacity);

/* The path of a node into field. index is its place when it is an element of an
 * array, which a token does not know; elements above it are not numbered. */
void ctki_json_field (const ctki_json_t *json, int node, long index, char field[CTKI_JSON_FIELD_BYTES]);

/* The size of the UTF-8 sequence at text (1 to 4), its code point in *point;
 * 0: it is not valid. size is at least 1. */
size_t ctki_utf8_decode (const char *text, size_t size, uint32_t *point);

/* Copies text so that it is one printable line of at most capacity - 1 bytes:
 * what cannot be printed becomes "?", what does not fit "...". Returns out. */
char *ctki_printable (char *out, size_t capacity, const char *text, size_t size);

/* Line and column of an offset; start with = { 0 } and go on with larger
 * offsets only, so that many places cost one pass over the text. */
typedef struct {
    size_t offset;
    int line, column; /* counted from 0 here */
} ctki_json_place_t;
void ctki_json_seek (ctki_json_place_t *place, const char *text, size_t offset);

#endif

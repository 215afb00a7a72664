/*
 * json.c - a JSON text validated, then cut into tokens by jsmn. The only file
 * that includes jsmn.h. Owns the array of tokens, nothing else.
 *
 * What may go wrong: the text is not JSON (a fault with its place, field and
 * reason), is too large, or there is no memory. After validation jsmn must
 * agree on the number of tokens; should it ever not, that is a fault as well.
 */
#include "config/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/mem.h"

#define JSMN_STATIC
#define JSMN_STRICT
#define JSMN_PARENT_LINKS /* without them jsmn takes quadratic time */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <jsmn.h>
#pragma GCC diagnostic pop

/* --------------------------------------------------------- characters */

static bool is_digit (int c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter (int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* What may belong to a number or a literal, right or wrong. */
static bool is_word_char (int c)
{
    return is_digit (c) || is_letter (c) || c == '_' || c == '.' || c == '+' || c == '-';
}

static int hex_value (int c)
{
    if (is_digit (c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The size of a sequence by its first byte, with the bits that this holds and
 * the least code point that needs so many bytes. 0: no first byte. */
static size_t utf8_lead (unsigned char c, uint32_t *bits, uint32_t *least)
{
    *least = 0;
    *bits = c;
    if (c < 0x80)
        return 1;
    if (c >= 0xc2 && c < 0xe0) {
        *bits = c & 0x1fu;
        *least = 0x80;
        return 2;
    }
    if (c >= 0xe0 && c < 0xf0) {
        *bits = c & 0x0fu;
        *least = 0x800;
        return 3;
    }
    if (c >= 0xf0 && c < 0xf5) {
        *bits = c & 0x07u;
        *least = 0x10000;
        return 4;
    }
    return 0;
}

size_t ctki_utf8_decode (const char *text, size_t size, uint32_t *point)
{
    uint32_t least;
    size_t length = utf8_lead ((unsigned char) text[0], point, &least);

    if (length == 0 || length > size)
        return 0;
    for (size_t i = 1; i < length; i++) {
        unsigned char c = (unsigned char) text[i];
        if ((c & 0xc0) != 0x80)
            return 0;
        *point = *point << 6 | (c & 0x3fu);
    }
    if (*point < least || *point > 0x10ffff || (*point >= 0xd800 && *point <= 0xdfff))
        return 0;
    return length;
}

static size_t utf8_encode (char out[4], uint32_t point)
{
    if (point < 0x80) {
        out[0] = (char) point;
        return 1;
    }
    if (point < 0x800) {
        out[0] = (char) (0xc0 | point >> 6);
        out[1] = (char) (0x80 | (point & 0x3f));
        return 2;
    }
    if (point < 0x10000) {
        out[0] = (char) (0xe0 | point >> 12);
        out[1] = (char) (0x80 | (point >> 6 & 0x3f));
        out[2] = (char) (0x80 | (point & 0x3f));
        return 3;
    }
    out[0] = (char) (0xf0 | point >> 18);
    out[1] = (char) (0x80 | (point >> 12 & 0x3f));
    out[2] = (char) (0x80 | (point >> 6 & 0x3f));
    out[3] = (char) (0x80 | (point & 0x3f));
    return 4;
}

/* Control characters of ASCII and Latin-1, line separators, and the marks that
 * change the direction of what follows: none of it belongs on a terminal. */
static bool is_printable (uint32_t point)
{
    return point >= 0x20 && !(point >= 0x7f && point <= 0x9f) && !(point >= 0x2028 && point <= 0x202e)
           && !(point >= 0x2066 && point <= 0x2069);
}

char *ctki_printable (char *out, size_t capacity, const char *text, size_t size)
{
    static const char dots[] = "...";
    size_t used = 0, fits = 0; /* fits: up to here there is room for the dots */

    CTKI_ASSERT (capacity >= sizeof dots);
    for (size_t at = 0; at < size;) {
        uint32_t point;
        size_t length = ctki_utf8_decode (text + at, size - at, &point);
        bool good = length > 0 && is_printable (point);
        size_t width = good ? length : 1;
        if (used + width >= capacity) {
            memcpy (out + fits, dots, sizeof dots);
            return out;
        }
        memcpy (out + used, good ? text + at : "?", width);
        used += width;
        if (used + sizeof dots <= capacity)
            fits = used;
        at += length > 0 ? length : 1;
    }
    out[used] = '\0';
    return out;
}

/* -------------------------------------------------------------- fields */

enum {
    KEY_BYTES = 33, /* of a key in a field, its end included */
    HEAD_BYTES = 24 /* of a long field, before the dots */
};

static void append_step (char field[CTKI_JSON_FIELD_BYTES], const char *step)
{
    size_t used = strlen (field), size = strlen (step);

    if (used + size >= CTKI_JSON_FIELD_BYTES) {
        size_t head = CTKI_MIN (used, (size_t) HEAD_BYTES);
        while (head > 0 && ((unsigned char) field[head] & 0xc0) == 0x80)
            head--;
        memcpy (field + head, "...", 3);
        used = head + 3;
    }
    memcpy (field + used, step, size + 1);
}

static bool is_plain_name (const char *raw, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!is_letter (raw[i]) && raw[i] != '_' && (i == 0 || !is_digit (raw[i])))
            return false;
    return size > 0;
}

static void append_key (char field[CTKI_JSON_FIELD_BYTES], const char *raw, size_t size)
{
    char key[KEY_BYTES], step[KEY_BYTES + 4];
    const char *dot = field[0] != '\0' ? "." : "", *quote = is_plain_name (raw, size) ? "" : "\"";

    snprintf (step, sizeof step, "%s%s%s%s", dot, quote, ctki_printable (key, sizeof key, raw, size), quote);
    append_step (field, step);
}

static void append_index (char field[CTKI_JSON_FIELD_BYTES], long index)
{
    char step[KEY_BYTES];

    if (index >= 0)
        snprintf (step, sizeof step, "[%ld]", index);
    else
        snprintf (step, sizeof step, "[]");
    append_step (field, step);
}

static void name_top (char field[CTKI_JSON_FIELD_BYTES])
{
    if (field[0] == '\0')
        snprintf (field, CTKI_JSON_FIELD_BYTES, "(top level)");
}

/* ---------------------------------------------------------- validation */

/* How deep the scan stands: in one open object or array per step, at a member
 * (key_size > 0), an element (index >= 0), or between two of them. */
typedef struct {
    const char *key;
    size_t key_size;
    long index;
} step_t;

typedef struct {
    const char *text;
    size_t size;
    size_t at;
    int tokens;
    int depth;
    step_t path[CTKI_JSON_DEPTH];
    ctki_json_fault_t *fault;
} scan_t;

enum { AT_END = -1 };

static const char IN_STRING[] = "the text ends inside a string";
static const char BAD_ESCAPE[] = "not an escape: \\\" \\\\ \\/ \\b \\f \\n \\r \\t or \\u and four hexadecimal digits";

static int peek (const scan_t *scan)
{
    return scan->at < scan->size ? (unsigned char) scan->text[scan->at] : AT_END;
}

static void skip_space (scan_t *scan)
{
    for (int c = peek (scan); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = peek (scan))
        scan->at++;
}

static bool fail_at (scan_t *scan, size_t offset, const char *reason)
{
    ctki_json_fault_t *fault = scan->fault;

    fault->offset = offset;
    fault->field[0] = '\0';
    for (int i = 0; i < scan->depth; i++) {
        const step_t *step = &scan->path[i];
        if (step->key)
            append_key (fault->field, step->key, step->key_size);
        else if (step->index >= 0)
            append_index (fault->field, step->index);
    }
    name_top (fault->field);
    snprintf (fault->reason, sizeof fault->reason, "%s", reason);
    return false;
}

/* Something else was expected here; says what it looks like if that helps. */
static bool fail_expected (scan_t *scan, const char *expected)
{
    switch (peek (scan)) {
    case AT_END:
        return fail_at (scan, scan->at, "the text ends before it is complete: something is missing or cut off");
    case '/':
    case '#':
        return fail_at (scan, scan->at, "JSON has no comments: remove it");
    case '\'':
        return fail_at (scan, scan->at, "single quotes: JSON needs double quotes");
    default:
        return fail_at (scan, scan->at, expected);
    }
}

/* Four hexadecimal digits after "\u" at offset; -1: they are not there. */
static int32_t scan_hex4 (const scan_t *scan, size_t offset)
{
    int32_t unit = 0;

    if (offset + 6 > scan->size || scan->text[offset] != '\\' || scan->text[offset + 1] != 'u')
        return -1;
    for (size_t i = 2; i < 6; i++) {
        int digit = hex_value (scan->text[offset + i]);
        if (digit < 0)
            return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

static bool scan_unicode_escape (scan_t *scan)
{
    int32_t unit = scan_hex4 (scan, scan->at), low;

    if (unit < 0)
        return fail_at (scan, scan->at, BAD_ESCAPE);
    if (unit < 0xd800 || unit > 0xdfff) {
        scan->at += 6;
        return true;
    }
    low = unit < 0xdc00 ? scan_hex4 (scan, scan->at + 6) : -1;
    if (low < 0xdc00 || low > 0xdfff)
        return fail_at (scan, scan->at, "half of a surrogate pair: \\ud800 to \\udbff, then \\udc00 to \\udfff");
    scan->at += 12;
    return true;
}

static bool scan_escape (scan_t *scan)
{
    int c = scan->at + 1 < scan->size ? scan->text[scan->at + 1] : AT_END;

    if (c == 'u')
        return scan_unicode_escape (scan);
    if (c <= 0 || !strchr ("\"\\/bfnrt", c))
        return fail_at (scan, scan->at, BAD_ESCAPE);
    scan->at += 2;
    return true;
}

static bool scan_utf8 (scan_t *scan)
{
    uint32_t point;
    size_t length = ctki_utf8_decode (scan->text + scan->at, scan->size - scan->at, &point);

    if (length == 0)
        return fail_at (scan, scan->at, "not valid UTF-8");
    scan->at += length;
    return true;
}

static bool scan_string (scan_t *scan)
{
    scan->tokens++;
    scan->at++;
    for (;;) {
        int c = peek (scan);
        if (c == AT_END)
            return fail_at (scan, scan->at, IN_STRING);
        if (c < 0x20)
            return fail_at (scan, scan->at, "a control character in a string: is a closing quote missing before it?");
        if (c == '"') {
            scan->at++;
            return true;
        }
        if (!(c == '\\' ? scan_escape (scan) : scan_utf8 (scan)))
            return false;
    }
}

static size_t scan_digits (scan_t *scan)
{
    size_t start = scan->at;

    while (is_digit (peek (scan)))
        scan->at++;
    return scan->at - start;
}

static bool skip_char (scan_t *scan, int c)
{
    if (peek (scan) != c)
        return false;
    scan->at++;
    return true;
}

static bool scan_number (scan_t *scan)
{
    size_t start = scan->at, digits_start;
    bool good;

    scan->tokens++;
    skip_char (scan, '-');
    digits_start = scan->at;
    good = scan_digits (scan) > 0;
    if (good && scan->text[digits_start] == '0' && scan->at - digits_start > 1)
        return fail_at (scan, start, "not a number: it must not begin with 0");
    if (good && skip_char (scan, '.'))
        good = scan_digits (scan) > 0;
    if (good && (skip_char (scan, 'e') || skip_char (scan, 'E'))) {
        if (!skip_char (scan, '-'))
            skip_char (scan, '+');
        good = scan_digits (scan) > 0;
    }
    if (!good || is_word_char (peek (scan)))
        return fail_at (scan, start, "not a number as JSON writes it");
    return true;
}

static bool scan_literal (scan_t *scan)
{
    static const char *const literals[] = {"true", "false", "null"};
    size_t start = scan->at;

    scan->tokens++;
    while (is_word_char (peek (scan)))
        scan->at++;
    for (size_t i = 0; i < sizeof literals / sizeof literals[0]; i++)
        if (strlen (literals[i]) == scan->at - start && memcmp (literals[i], scan->text + start, scan->at - start) == 0)
            return true;
    return fail_at (scan, start, "not a value of JSON: true, false, null, a number, or a text in double quotes");
}

static bool scan_value (scan_t *scan);

static bool scan_member (scan_t *scan, step_t *step)
{
    size_t start = scan->at + 1;

    if (!scan_string (scan))
        return false;
    step->key = scan->text + start;
    step->key_size = scan->at - start - 1;
    skip_space (scan);
    if (!skip_char (scan, ':'))
        return fail_expected (scan, "\":\" expected after the key");
    skip_space (scan);
    if (!scan_value (scan))
        return false;
    step->key = NULL;
    return true;
}

static bool scan_object (scan_t *scan, step_t *step)
{
    skip_space (scan);
    if (skip_char (scan, '}'))
        return true;
    if (peek (scan) != '"')
        return fail_expected (scan, "a key in double quotes or \"}\" expected");
    for (;;) {
        if (!scan_member (scan, step))
            return false;
        skip_space (scan);
        if (skip_char (scan, '}'))
            return true;
        if (!skip_char (scan, ','))
            return fail_expected (scan, "\",\" or \"}\" expected: is a comma missing before it?");
        skip_space (scan);
        if (peek (scan) == '}')
            return fail_at (scan, scan->at, "\"}\" after a comma: remove that comma");
        if (peek (scan) != '"')
            return fail_expected (scan, "a key in double quotes expected after the comma");
    }
}

static bool scan_array (scan_t *scan, step_t *step)
{
    skip_space (scan);
    if (skip_char (scan, ']'))
        return true;
    for (long index = 0;; index++) {
        step->index = index;
        if (!scan_value (scan))
            return false;
        step->index = -1;
        skip_space (scan);
        if (skip_char (scan, ']'))
            return true;
        if (!skip_char (scan, ','))
            return fail_expected (scan, "\",\" or \"]\" expected: is a comma missing before it?");
        skip_space (scan);
        if (peek (scan) == ']')
            return fail_at (scan, scan->at, "\"]\" after a comma: remove that comma");
    }
}

/* Recursion ends at CTKI_JSON_DEPTH. */
static bool scan_nested (scan_t *scan, bool object) /* NOLINT(misc-no-recursion) */
{
    step_t *step;
    bool good;

    if (scan->depth == CTKI_JSON_DEPTH)
        return fail_at (scan, scan->at, "nested too deeply: at most 64 objects and arrays in each other");
    step = &scan->path[scan->depth++];
    *step = (step_t){.key = NULL, .key_size = 0, .index = -1};
    scan->tokens++;
    scan->at++;
    good = object ? scan_object (scan, step) : scan_array (scan, step);
    scan->depth -= good;
    return good;
}

static bool scan_value (scan_t *scan) /* NOLINT(misc-no-recursion) */
{
    int c = peek (scan);

    if (c == '{' || c == '[')
        return scan_nested (scan, c == '{');
    if (c == '"')
        return scan_string (scan);
    if (c == '-' || is_digit (c))
        return scan_number (scan);
    if (is_letter (c))
        return scan_literal (scan);
    return fail_expected (scan, "a value expected: an object, an array, a text in double quotes, a number, true, "
                                "false or null");
}

static bool scan_text (scan_t *scan)
{
    if (scan->size >= 3 && memcmp (scan->text, "\xef\xbb\xbf", 3) == 0)
        return fail_at (scan, 0, "a byte order mark: save the file as UTF-8 without it");
    skip_space (scan);
    if (peek (scan) == AT_END)
        return fail_at (scan, scan->at, "the text is empty: it must be an object { ... }");
    if (!scan_value (scan))
        return false;
    skip_space (scan);
    if (peek (scan) != AT_END)
        return fail_expected (scan, "nothing may follow the end of the value: remove it");
    return true;
}

bool ctki_json_validate (const char *text, size_t size, int *tokens, ctki_json_fault_t *fault)
{
    scan_t scan = {.text = text, .size = size, .fault = fault};

    if (size > CTKI_CONFIG_BYTES)
        return fail_at (&scan, 0, "larger than 1 MiB");
    if (!scan_text (&scan))
        return false;
    if (tokens)
        *tokens = scan.tokens;
    return true;
}

/* --------------------------------------------------------------- tokens */

static size_t first_char (const char *text, size_t size)
{
    scan_t scan = {.text = text, .size = size};

    skip_space (&scan);
    return scan.at;
}

static int refuse (ctki_json_fault_t *fault, size_t offset, const char *reason)
{
    scan_t scan = {.fault = fault};

    fail_at (&scan, offset, reason);
    errno = EINVAL;
    return -1;
}

int ctki_json_init (ctki_json_t *json, const char *text, size_t size, ctki_json_fault_t *fault)
{
    jsmn_parser parser;
    int count = 0;

    *json = (ctki_json_t){.text = text, .size = size};
    if (!ctki_json_validate (text, size, &count, fault)) {
        errno = size > CTKI_CONFIG_BYTES ? EFBIG : EINVAL;
        return -1;
    }
    size_t top = first_char (text, size);
    if (text[top] != '{' && text[top] != '[')
        return refuse (fault, top, "must be an object { ... }");
    json->tokens = ctki_alloc ((size_t) count * sizeof (jsmntok_t));
    if (!json->tokens)
        return -1;
    jsmn_init (&parser);
    json->count = jsmn_parse (&parser, text, size, json->tokens, (unsigned) count);
    if (json->count != count) {
        ctki_json_fini (json);
        return refuse (fault, top, "not JSON to the tokenizer");
    }
    return 0;
}

void ctki_json_fini (ctki_json_t *json)
{
    ctki_free (json->tokens);
    json->tokens = NULL;
    json->count = 0;
}

static const jsmntok_t *token_at (const ctki_json_t *json, int node)
{
    const jsmntok_t *tokens = json->tokens;

    CTKI_ASSERT (node >= 0 && node < json->count);
    return &tokens[node];
}

ctki_json_kind_t ctki_json_kind (const ctki_json_t *json, int node)
{
    const jsmntok_t *token = token_at (json, node);

    if (token->type == JSMN_OBJECT)
        return CTKI_JSON_OBJECT;
    if (token->type == JSMN_ARRAY)
        return CTKI_JSON_ARRAY;
    if (token->type == JSMN_STRING)
        return CTKI_JSON_STRING;
    switch (json->text[token->start]) {
    case 't':
        return CTKI_JSON_TRUE;
    case 'f':
        return CTKI_JSON_FALSE;
    case 'n':
        return CTKI_JSON_NULL;
    default:
        return CTKI_JSON_NUMBER;
    }
}

int ctki_json_first (const ctki_json_t *json, int node)
{
    const jsmntok_t *token = token_at (json, node);

    return token->size > 0 && (token->type == JSMN_OBJECT || token->type == JSMN_ARRAY) ? node + 1 : -1;
}

int ctki_json_next (const ctki_json_t *json, int node)
{
    int parent = token_at (json, node)->parent, next = node;

    if (parent < 0)
        return -1;
    if (token_at (json, parent)->type == JSMN_OBJECT)
        next++; /* from the key to its value */
    int end = token_at (json, next)->end;
    do {
        next++;
    } while (next < json->count && token_at (json, next)->start < end);
    return next < json->count && token_at (json, next)->parent == parent ? next : -1;
}

int ctki_json_size (const ctki_json_t *json, int node)
{
    return token_at (json, node)->size;
}

size_t ctki_json_offset (const ctki_json_t *json, int node)
{
    const jsmntok_t *token = token_at (json, node);

    return (size_t) token->start - (token->type == JSMN_STRING ? 1 : 0);
}

const char *ctki_json_raw (const ctki_json_t *json, int node, size_t *size)
{
    const jsmntok_t *token = token_at (json, node);

    *size = (size_t) (token->end - token->start);
    return json->text + token->start;
}

void ctki_json_field (const ctki_json_t *json, int node, long index, char field[CTKI_JSON_FIELD_BYTES])
{
    int chain[2 * CTKI_JSON_DEPTH + 1], length = 0; /* a key and its value per level, and the top */

    for (int i = node; i > 0; i = token_at (json, i)->parent)
        chain[length++] = i;
    field[0] = '\0';
    while (length-- > 0) {
        int parent = token_at (json, chain[length])->parent;
        jsmntype_t type = token_at (json, parent)->type;
        size_t size;
        const char *raw = ctki_json_raw (json, chain[length], &size);
        if (type == JSMN_OBJECT)
            append_key (field, raw, size);
        else if (type == JSMN_ARRAY)
            append_index (field, length == 0 ? index : -1);
    }
    name_top (field);
}

/* --------------------------------------------------------------- strings */

/* Decodes the escape at offset; returns how long it is. It is a valid one. */
static size_t decode_escape (const scan_t *scan, size_t offset, uint32_t *point)
{
    static const char names[] = "bfnrt", values[] = "\b\f\n\r\t";
    char c = scan->text[offset + 1];

    if (c != 'u') {
        const char *name = strchr (names, c);
        *point = (uint32_t) (name ? values[name - names] : c);
        return 2;
    }
    *point = (uint32_t) scan_hex4 (scan, offset);
    if (*point < 0xd800 || *point > 0xdfff)
        return 6;
    *point = 0x10000 + ((*point - 0xd800) << 10) + ((uint32_t) scan_hex4 (scan, offset + 6) - 0xdc00);
    return 12;
}

size_t ctki_json_string (const ctki_json_t *json, int node, char *out, size_t capacity)
{
    scan_t scan = {0};
    size_t used = 0;

    scan.text = ctki_json_raw (json, node, &scan.size);
    for (size_t at = 0; at < scan.size;) {
        char bytes[4] = {scan.text[at]};
        size_t width = 1, length = 1;
        if (scan.text[at] == '\\') {
            uint32_t point;
            length = decode_escape (&scan, at, &point);
            width = utf8_encode (bytes, point);
        }
        for (size_t i = 0; i < width; i++, used++)
            if (used < capacity)
                out[used] = bytes[i];
        at += length;
    }
    return used;
}

/* ---------------------------------------------------------------- places */

void ctki_json_seek (ctki_json_place_t *place, const char *text, size_t offset)
{
    for (; place->offset < offset; place->offset++) {
        unsigned char c = (unsigned char) text[place->offset];
        if (c == '\n') {
            place->line++;
            place->column = 0;
        } else if ((c & 0xc0) != 0x80) {
            place->column++; /* a byte that continues a sequence adds no column */
        }
    }
}

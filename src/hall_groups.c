/*
 * hall_groups.c - groups: who is a member, here and at the peers; who watches. See
 * hall.h.
 *
 * A member is `known` while its server says that it is one, and `is` one for those
 * who ask as long as that server is up in our eyes, too. What a peer told is kept
 * while it is down: the session goes on afterwards, and with it what it tells.
 *
 * A peer that comes up is told all members here, between two notices: what it knows
 * of us and does not hear of again is gone. Then it is told what changes.
 *
 * What may go wrong: memory is missing for a notice, then the peer is told all again
 * later; or for an event, then the group's changes wait in line, each for all who
 * watch. A member that comes and goes while they wait is not told of.
 */
#include <errno.h>

#include "src/hall.h"
#include "src/mem.h"

enum { FIRST_MEMBERS = 4 /* room in a new group */ };

struct ctki_group;

typedef struct ctki_member {
    struct ctki_group *group;
    ctalk_address_t at;
    bool known; /* to be freed when it is not, and does not wait */
    bool stale; /* its server began to tell all, and has not told it yet */
    bool is;    /* a member, and on a server that is up */
    bool told;  /* the same, as those who watch know it */
    struct ctki_member *next, **link;         /* of the group's changes; link NULL: it does not wait */
    struct ctki_member *own_next, **own_link; /* of the actor, while it is known; of a peer's: NULL */
} member_t;

typedef struct ctki_group_watch {
    struct ctki_group *group;
    ctalk_actor_t *actor;
    struct ctki_group_watch *next, **link;         /* of the group */
    struct ctki_group_watch *own_next, **own_link; /* of the actor */
} watch_t;

typedef struct ctki_group {
    struct ctki_group *next; /* of the same hash */
    uint64_t hash;
    member_t **members; /* by pid and id, those who are not known any more and wait among them */
    size_t count, capacity;
    member_t *changes, **changes_end; /* not told to those who watch */
    watch_t *watches;
    size_t length;
    char name[]; /* with its end */
} group_t;

/* What `ups` says of a peer. */
#define TOLD ((void *) (uintptr_t) 1)
#define TO_BE_TOLD ((void *) (uintptr_t) 2) /* all, again */

/* Something found no memory. */
static void retry_later (ctki_hall_t *hall)
{
    hall->groups_due = true;
    ctki_hall_look_at (hall, ctki_now_us () + CTKI_HALL_RETRY_MS * CTKI_MS);
}

static bool is_up (const ctki_hall_t *hall, ctalk_pid_t pid)
{
    return ctki_map_get (&hall->ups, (uint64_t) pid) != NULL;
}

/* ---- groups by name */

static group_t *find_group (const ctki_hall_t *hall, const char *name, size_t length)
{
    group_t *group = ctki_map_get (&hall->groups, ctki_name_hash (name, length));
    while (group && (group->length != length || memcmp (group->name, name, length) != 0))
        group = group->next;
    return group;
}

/* NULL: ENOMEM. */
static group_t *make_group (ctki_hall_t *hall, const char *name, size_t length)
{
    group_t *group = ctki_alloc_zero (sizeof *group + length + 1);
    if (!group)
        return NULL;
    memcpy (group->name, name, length);
    group->length = length;
    group->changes_end = &group->changes;
    group->hash = ctki_name_hash (name, length);
    group->next = ctki_map_get (&hall->groups, group->hash);
    if (ctki_map_put (&hall->groups, group->hash, group)) {
        ctki_free (group);
        return NULL;
    }
    return group;
}

static group_t *find_or_make_group (ctki_hall_t *hall, const char *name, size_t length)
{
    group_t *group = find_group (hall, name, length);
    return group ? group : make_group (hall, name, length);
}

static void unlist_group (ctki_hall_t *hall, group_t *group)
{
    group_t *first = ctki_map_get (&hall->groups, group->hash);
    if (first == group && !group->next)
        ctki_map_remove (&hall->groups, group->hash);
    else if (first == group)
        ctki_map_put (&hall->groups, group->hash, group->next); /* the key is there: this cannot fail */
    else {
        while (first->next != group)
            first = first->next;
        first->next = group->next;
    }
}

/* Whether it went: nobody is in it, and nobody watches it. */
static bool drop_if_empty (ctki_hall_t *hall, group_t *group)
{
    if (group->count > 0 || group->watches)
        return false;
    unlist_group (hall, group);
    ctki_free (group->members);
    ctki_free (group);
    return true;
}

/* ---- members of a group */

/* Where a member stands, or is to stand. */
static size_t place_of (const group_t *group, ctalk_pid_t pid, uint64_t actor)
{
    size_t low = 0, high = group->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const ctalk_address_t *at = &group->members[middle]->at;
        if (at->pid < pid || (at->pid == pid && at->actor < actor))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static member_t *find_member (const group_t *group, ctalk_pid_t pid, uint64_t actor)
{
    size_t place = place_of (group, pid, actor);
    member_t *member = place < group->count ? group->members[place] : NULL;
    return member && member->at.pid == pid && member->at.actor == actor ? member : NULL;
}

/* Room for one more. -1: ENOMEM. */
static int widen (group_t *group)
{
    if (group->count < group->capacity)
        return 0;
    size_t capacity = group->capacity ? group->capacity * 2 : FIRST_MEMBERS;
    member_t **members = ctki_realloc (group->members, capacity * sizeof (member_t *));
    if (!members)
        return -1;
    group->members = members;
    group->capacity = capacity;
    return 0;
}

/* One that is not known yet. NULL: ENOMEM. */
static member_t *make_member (group_t *group, ctalk_pid_t pid, uint64_t actor)
{
    member_t *member = widen (group) ? NULL : ctki_alloc_zero (sizeof *member);
    if (!member)
        return NULL;
    member->group = group;
    member->at = (ctalk_address_t){.pid = pid, .actor = actor};
    size_t place = place_of (group, pid, actor);
    memmove (&group->members[place + 1], &group->members[place], (group->count - place) * sizeof (member_t *));
    group->members[place] = member;
    group->count++;
    return member;
}

/* The member, made if need be, and its group. NULL: ENOMEM, and nothing was made. */
static member_t *find_or_make_member (ctki_hall_t *hall, const char *name, size_t length, ctalk_pid_t pid,
                                      uint64_t actor)
{
    group_t *group = find_or_make_group (hall, name, length);
    if (!group)
        return NULL;
    member_t *member = find_member (group, pid, actor);
    if (!member && !(member = make_member (group, pid, actor)))
        drop_if_empty (hall, group);
    return member;
}

/* Frees those who are not known and wait for nothing. */
static void forget_unknown (group_t *group)
{
    size_t kept = 0;
    for (size_t i = 0; i < group->count; i++) {
        member_t *member = group->members[i];
        if (member->known || member->link)
            group->members[kept++] = member;
        else
            ctki_free (member);
    }
    group->count = kept;
}

/* ---- changes, and those who are told of them */

static void wait_in_line (member_t *member)
{
    group_t *group = member->group;
    member->next = NULL;
    member->link = group->changes_end;
    *member->link = member;
    group->changes_end = &member->next;
}

static void leave_line (member_t *member)
{
    CTKI_ASSERT (member->link);
    *member->link = member->next;
    *(member->next ? &member->next->link : &member->group->changes_end) = member->link;
    member->link = NULL;
}

/* From now on a member is known, or is one; finish () does what follows from it. A
 * change goes to the end of the line, also when one of the same member was there. */
static void change (member_t *member, bool known, bool is)
{
    if (member->link && member->is != is)
        leave_line (member);
    member->known = known;
    member->is = is;
    member->stale = false;
    if (!member->link && (is != member->told || !known))
        wait_in_line (member);
}

/* NULL: ENOMEM. */
static ctki_letter_t *make_event (const watch_t *watch, const member_t *member, ctalk_kind_t kind)
{
    const group_t *group = watch->group;
    ctki_letter_t *letter = ctki_letter_event (watch->actor->hall, kind, member->at.pid, member->at.actor, group->name,
                                               group->length + 1);
    if (letter) {
        letter->envelope.size = group->length;
        letter->envelope.to = watch->actor->id;
    }
    return letter;
}

static void add_letter (ctki_letters_t *letters, ctki_letter_t *letter)
{
    letter->next = NULL;
    *(letters->tail ? &letters->tail->next : &letters->head) = letter;
    letters->tail = letter;
}

static ctki_letter_t *take_letter (ctki_letters_t *letters)
{
    ctki_letter_t *letter = letters->head;
    if (letter)
        letters->head = letter->next;
    return letter;
}

static void free_letters (ctki_letters_t *letters)
{
    for (ctki_letter_t *letter; (letter = take_letter (letters));)
        ctki_letter_free (letter);
}

/* All who watch are told of a member, or nobody (-1: ENOMEM). */
static int tell_watches (const member_t *member)
{
    ctki_letters_t letters = {0};
    ctalk_kind_t kind = member->is ? CTALK_GROUP_JOINED : CTALK_GROUP_LEFT;
    for (watch_t *watch = member->group->watches; watch; watch = watch->next) {
        ctki_letter_t *letter = make_event (watch, member, kind);
        if (!letter) {
            free_letters (&letters);
            return -1;
        }
        add_letter (&letters, letter);
    }
    for (watch_t *watch = member->group->watches; watch; watch = watch->next)
        ctki_mail_put (watch->actor, take_letter (&letters));
    return 0;
}

/* Tells the changes in their order, as far as there is memory. Members may be freed. */
static void tell_changes (ctki_hall_t *hall, group_t *group)
{
    bool unknown = false;
    for (member_t *member; (member = group->changes);) {
        if (member->is != member->told && tell_watches (member)) {
            retry_later (hall);
            break;
        }
        member->told = member->is;
        leave_line (member);
        unknown |= !member->known;
    }
    if (unknown)
        forget_unknown (group);
}

/* After any change in a group. Whether the group went: nobody needs it any more. */
static bool finish (ctki_hall_t *hall, group_t *group)
{
    tell_changes (hall, group);
    return drop_if_empty (hall, group);
}

/* ---- all groups */

/* Calls fn for the known members on a server in a group. */
static void each_known (group_t *group, ctalk_pid_t pid, void (*fn) (member_t *member))
{
    for (size_t i = place_of (group, pid, 0); i < group->count && group->members[i]->at.pid == pid; i++) {
        if (group->members[i]->known)
            fn (group->members[i]);
    }
}

/* The same in a row of groups, which it finishes. Whether one of them went. */
static bool each_in_row (ctki_hall_t *hall, group_t *group, ctalk_pid_t pid, void (*fn) (member_t *member))
{
    bool gone = false;
    for (group_t *next; group; group = next) {
        next = group->next;
        each_known (group, pid, fn);
        gone |= finish (hall, group);
    }
    return gone;
}

/* The same in all groups. Where one goes, others may move to its place in the map,
 * and never to a place before it but from one that was passed: so it is looked at
 * again. fn may see a member twice. */
static void each_everywhere (ctki_hall_t *hall, ctalk_pid_t pid, void (*fn) (member_t *member))
{
    for (size_t i = 0; i < hall->groups.capacity;)
        i += each_in_row (hall, hall->groups.slots[i].value, pid, fn) ? 0 : 1;
}

static void mark_stale (member_t *member)
{
    member->stale = true;
}

static void forget (member_t *member)
{
    change (member, false, false);
}

static void forget_stale (member_t *member)
{
    if (member->stale)
        forget (member);
}

/* Between the two notices of a peer that tells all it may come and go: a member stays stale. */
static void set_seen (member_t *member, bool is)
{
    bool stale = member->stale;
    change (member, true, is);
    member->stale = stale;
}

static void hide (member_t *member)
{
    set_seen (member, false);
}

static void unhide (member_t *member)
{
    set_seen (member, true);
}

/* ---- what peers are told, and tell */

/* One that is to be told all again is not told: it will hear what is so then. */
static void tell_peer (ctki_hall_t *hall, ctki_slot_t *up, const ctki_notice_t *notice)
{
    if (up->value == TOLD && ctki_hall_tell (hall, (ctalk_pid_t) up->key, notice)) {
        up->value = TO_BE_TOLD;
        retry_later (hall);
    }
}

static ctki_notice_t notice_of (const member_t *member, ctki_op_t op)
{
    return (ctki_notice_t){
        .op = op, .a = member->at.actor, .text = member->group->name, .text_size = member->group->length};
}

static void tell_peers (ctki_hall_t *hall, const member_t *member, ctki_op_t op)
{
    ctki_notice_t notice = notice_of (member, op);
    for (size_t i = 0; i < hall->ups.capacity; i++) {
        if (hall->ups.slots[i].value)
            tell_peer (hall, &hall->ups.slots[i], &notice);
    }
}

static int tell_group (ctki_hall_t *hall, ctalk_pid_t pid, const group_t *group)
{
    int rc = 0;
    for (size_t i = place_of (group, hall->self, 0);
         rc == 0 && i < group->count && group->members[i]->at.pid == hall->self; i++) {
        ctki_notice_t notice = notice_of (group->members[i], CTKI_JOINED);
        if (group->members[i]->known)
            rc = ctki_hall_tell (hall, pid, &notice);
    }
    return rc;
}

/* -1: ENOMEM, and all is to be told again. */
static int tell_members (ctki_hall_t *hall, ctalk_pid_t pid)
{
    if (!hall->groups_used) /* it knows of none here */
        return 0;
    int rc = ctki_hall_tell (hall, pid, &(ctki_notice_t){.op = CTKI_TELL_ALL});
    for (size_t i = 0; i < hall->groups.capacity; i++) {
        for (const group_t *group = hall->groups.slots[i].value; group && rc == 0; group = group->next)
            rc = tell_group (hall, pid, group);
    }
    return rc ? rc : ctki_hall_tell (hall, pid, &(ctki_notice_t){.op = CTKI_TOLD_ALL});
}

/* Tells a peer that is noted as up. */
static void tell_all (ctki_hall_t *hall, ctalk_pid_t pid)
{
    bool told = tell_members (hall, pid) == 0;
    ctki_map_put (&hall->ups, (uint64_t) pid, told ? TOLD : TO_BE_TOLD); /* the key is there: this cannot fail */
    if (!told)
        retry_later (hall);
}

int ctki_groups_peer_up (ctki_hall_t *hall, ctalk_pid_t pid)
{
    if (ctki_map_put (&hall->ups, (uint64_t) pid, TO_BE_TOLD))
        return -1;
    tell_all (hall, pid);
    each_everywhere (hall, pid, unhide);
    return 0;
}

void ctki_groups_peer_gone (ctki_hall_t *hall, ctalk_pid_t pid, uint32_t why)
{
    ctki_map_remove (&hall->ups, (uint64_t) pid);
    each_everywhere (hall, pid, why == CTALK_WHY_DOWN ? hide : forget);
}

static int hear_joined (ctki_hall_t *hall, ctalk_pid_t pid, const ctki_notice_t *notice)
{
    member_t *member = find_or_make_member (hall, notice->text, notice->text_size, pid, notice->a);
    if (!member)
        return -1;
    change (member, true, is_up (hall, pid));
    finish (hall, member->group);
    return 0;
}

static void hear_left (ctki_hall_t *hall, ctalk_pid_t pid, const ctki_notice_t *notice)
{
    group_t *group = find_group (hall, notice->text, notice->text_size);
    member_t *member = group ? find_member (group, pid, notice->a) : NULL;
    if (!member || !member->known)
        return;
    forget (member);
    finish (hall, group);
}

/* Whether a notice can be about a member: it comes from outside. */
static bool is_sound (const ctki_notice_t *notice)
{
    return ctki_id_is_actor (notice->a) && notice->text_size > 0 && notice->text_size <= CTKI_NAME_BYTES
           && !memchr (notice->text, 0, notice->text_size);
}

int ctki_groups_hear (ctki_hall_t *hall, ctalk_pid_t pid, const ctki_notice_t *notice)
{
    int rc = 0;
    if (pid == hall->self)
        return 0;
    if (notice->op == CTKI_JOINED && is_sound (notice))
        rc = hear_joined (hall, pid, notice);
    else if (notice->op == CTKI_LEFT && is_sound (notice))
        hear_left (hall, pid, notice);
    else if (notice->op == CTKI_TELL_ALL)
        each_everywhere (hall, pid, mark_stale);
    else if (notice->op == CTKI_TOLD_ALL)
        each_everywhere (hall, pid, forget_stale);
    return rc;
}

/* A pid that no server has: the groups are finished, and no more. */
static void finish_all (ctki_hall_t *hall)
{
    each_everywhere (hall, -1, forget);
}

void ctki_groups_retry (ctki_hall_t *hall)
{
    if (!hall->groups_due)
        return;
    hall->groups_due = false;
    for (size_t i = 0; i < hall->ups.capacity; i++) {
        if (hall->ups.slots[i].value == TO_BE_TOLD)
            tell_all (hall, (ctalk_pid_t) hall->ups.slots[i].key);
    }
    finish_all (hall);
}

/* ---- members here */

static int join (ctalk_actor_t *actor, const char *name, size_t length)
{
    ctki_hall_t *hall = actor->hall;
    member_t *member = find_or_make_member (hall, name, length, hall->self, actor->id);
    if (!member)
        return ENOMEM;
    if (member->known)
        return EEXIST;
    member->own_next = actor->memberships;
    member->own_link = &actor->memberships;
    if (member->own_next)
        member->own_next->own_link = &member->own_next;
    actor->memberships = member;
    hall->groups_used = true;
    change (member, true, true);
    tell_peers (hall, member, CTKI_JOINED);
    finish (hall, member->group);
    return 0;
}

static void leave (ctki_hall_t *hall, member_t *member)
{
    CTKI_ASSERT (member->own_link);
    *member->own_link = member->own_next;
    if (member->own_next)
        member->own_next->own_link = member->own_link;
    member->own_next = NULL;
    member->own_link = NULL;
    forget (member);
    tell_peers (hall, member, CTKI_LEFT);
    finish (hall, member->group);
}

static int leave_named (ctalk_actor_t *actor, const char *name, size_t length)
{
    group_t *group = find_group (actor->hall, name, length);
    member_t *member = group ? find_member (group, actor->hall->self, actor->id) : NULL;
    if (!member || !member->known)
        return ESRCH;
    leave (actor->hall, member);
    return 0;
}

/* ---- watches */

static watch_t *find_watch (const ctalk_actor_t *actor, const group_t *group)
{
    watch_t *watch = actor->group_watches;
    while (watch && watch->group != group)
        watch = watch->own_next;
    return watch;
}

static void list_watch (watch_t *watch)
{
    group_t *group = watch->group;
    ctalk_actor_t *actor = watch->actor;
    watch->next = group->watches;
    watch->link = &group->watches;
    if (watch->next)
        watch->next->link = &watch->next;
    group->watches = watch;
    watch->own_next = actor->group_watches;
    watch->own_link = &actor->group_watches;
    if (watch->own_next)
        watch->own_next->own_link = &watch->own_next;
    actor->group_watches = watch;
}

static void end_watch (ctki_hall_t *hall, watch_t *watch)
{
    group_t *group = watch->group;
    *watch->link = watch->next;
    if (watch->next)
        watch->next->link = watch->link;
    *watch->own_link = watch->own_next;
    if (watch->own_next)
        watch->own_next->own_link = watch->own_link;
    ctki_free (watch);
    finish (hall, group);
}

/* An event for each member as the others who watch know them: what waits in line
 * comes to all. -1: ENOMEM, and there are none. */
static int make_first_events (const watch_t *watch, ctki_letters_t *letters)
{
    const group_t *group = watch->group;
    for (size_t i = 0; i < group->count; i++) {
        const member_t *member = group->members[i];
        ctki_letter_t *letter = member->told ? make_event (watch, member, CTALK_GROUP_JOINED) : NULL;
        if (letter)
            add_letter (letters, letter);
        else if (member->told) {
            free_letters (letters);
            return -1;
        }
    }
    return 0;
}

static int make_watch (ctalk_actor_t *actor, group_t *group)
{
    ctki_letters_t letters = {0};
    watch_t *watch = ctki_alloc_zero (sizeof *watch);
    if (!watch)
        return ENOMEM;
    watch->group = group;
    watch->actor = actor;
    if (make_first_events (watch, &letters)) {
        ctki_free (watch);
        return ENOMEM;
    }
    list_watch (watch);
    for (ctki_letter_t *letter; (letter = take_letter (&letters));)
        ctki_mail_put (actor, letter);
    return 0;
}

static int begin_watch (ctalk_actor_t *actor, const char *name, size_t length)
{
    group_t *group = find_or_make_group (actor->hall, name, length);
    if (!group)
        return ENOMEM;
    int rc = find_watch (actor, group) ? 0 : make_watch (actor, group);
    if (rc)
        drop_if_empty (actor->hall, group);
    return rc;
}

static int end_watch_named (ctalk_actor_t *actor, const char *name, size_t length)
{
    group_t *group = find_group (actor->hall, name, length);
    watch_t *watch = group ? find_watch (actor, group) : NULL;
    if (watch)
        end_watch (actor->hall, watch);
    return 0;
}

/* ---- the calls */

/* Does something about a group with the lock held. 0, or an errno. */
static int with_group (ctalk_actor_t *actor, const char *name,
                       int (*fn) (ctalk_actor_t *actor, const char *name, size_t length))
{
    size_t length = ctki_name_length (name);
    if (length == 0)
        return EINVAL;
    ctki_hall_lock (actor->hall);
    int rc = atomic_load (&actor->hall->closing) ? ESHUTDOWN : fn (actor, name, length);
    ctki_hall_unlock (actor->hall);
    return rc;
}

int ctki_hall_join_group (ctalk_actor_t *actor, const char *name)
{
    return with_group (actor, name, join);
}

int ctki_hall_leave_group (ctalk_actor_t *actor, const char *name)
{
    return with_group (actor, name, leave_named);
}

int ctki_hall_watch_group (ctalk_actor_t *actor, const char *name, bool on)
{
    return with_group (actor, name, on ? begin_watch : end_watch_named);
}

static int list_members (const group_t *group, ctalk_address_t *members, size_t capacity)
{
    size_t count = 0;
    for (size_t i = 0; group && i < group->count; i++) {
        if (!group->members[i]->is)
            continue;
        if (count < capacity)
            members[count] = group->members[i]->at;
        count++;
    }
    return (int) count;
}

int ctki_hall_members (ctki_hall_t *hall, const char *name, ctalk_address_t *members, size_t capacity)
{
    size_t length = ctki_name_length (name);
    if (length == 0 || (capacity > 0 && !members)) {
        errno = EINVAL;
        return -1;
    }
    ctki_hall_lock (hall);
    bool closing = atomic_load (&hall->closing);
    int count = closing ? -1 : list_members (find_group (hall, name, length), members, capacity);
    ctki_hall_unlock (hall);
    if (closing)
        errno = ESHUTDOWN;
    return count;
}

/* Its watches first: it is not told that it leaves. */
void ctki_groups_end (ctalk_actor_t *actor)
{
    while (actor->group_watches)
        end_watch (actor->hall, actor->group_watches);
    while (actor->memberships)
        leave (actor->hall, actor->memberships);
}

static void free_group (group_t *group)
{
    for (size_t i = 0; i < group->count; i++)
        ctki_free (group->members[i]);
    while (group->watches) {
        watch_t *watch = group->watches;
        group->watches = watch->next;
        ctki_free (watch);
    }
    ctki_free (group->members);
    ctki_free (group);
}

/* No actor is there any more. */
void ctki_groups_fini (ctki_hall_t *hall)
{
    for (size_t i = 0; i < hall->groups.capacity; i++) {
        for (group_t *group = hall->groups.slots[i].value, *next; group; group = next) {
            next = group->next;
            free_group (group);
        }
    }
    ctki_map_fini (&hall->groups);
    ctki_map_fini (&hall->ups);
}

/*
 * Every value goes through set(): the defaults of the table, too, so that they are held to their
 * own ranges. A value of a lower source than the present one is checked and then left.
 */
#include "server/config.h"

#include <ctype.h>
#include <ini.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/io.h"
#include "transport/transport.h"

static const struct config_key keys[CONFIG_COUNT] = {
#define CONFIG_ROW(name, type, value, min, max, unit, help)                                        \
    {#name, CONFIG_##type, value, min, max, unit, help, offsetof(struct config, name)},
    CONFIG_MAP(CONFIG_ROW)
#undef CONFIG_ROW
};

/* Where a value stands, for texts. */
struct place {
    enum config_source source;
    const char *path; /* FILE */
    unsigned line;
};

const struct config_key *config_keys(void)
{
    return keys;
}

static uint64_t *number_at(const struct config *self, const struct config_key *key)
{
    ASSERT(key->type <= CONFIG_TIME);
    ASSERT(key->offset % sizeof(uint64_t) == 0);
    return (uint64_t *)(uintptr_t)((const char *)self + key->offset);
}

static char *text_at(const struct config *self, const struct config_key *key)
{
    ASSERT(key->type == CONFIG_TEXT || key->type == CONFIG_WORD);
    return (char *)(uintptr_t)((const char *)self + key->offset);
}

/* ---- values and their text ---- */

static const struct unit {
    enum config_type type;
    const char *name;
    uint64_t factor;
} units[] = {
    {CONFIG_SIZE, "G", UINT64_C(1) << 30},
    {CONFIG_SIZE, "M", UINT64_C(1) << 20},
    {CONFIG_SIZE, "K", UINT64_C(1) << 10},
    {CONFIG_TIME, "m", 60000},
    {CONFIG_TIME, "s", 1000},
    {CONFIG_TIME, "ms", 1},
};

enum { UNIT_COUNT = sizeof units / sizeof units[0] };

/* "64M"; the largest unit that divides the value. */
static const char *number_text(enum config_type type, uint64_t value, char *buffer, size_t size)
{
    const char *name = "";

    for (size_t i = 0; i < UNIT_COUNT && value > 0; i++) {
        if (units[i].type == type && value % units[i].factor == 0) {
            value /= units[i].factor;
            name = units[i].name;
            break;
        }
    }
    (void)snprintf(buffer, size, "%llu%s", (unsigned long long)value, name); /* It fits. */
    return buffer;
}

/* False for what is not digits followed by a unit of the type, or too large for 64 bits. */
static bool number_parse(enum config_type type, const char *text, uint64_t *ret_value)
{
    uint64_t value = 0;
    uint64_t factor = 0;
    const char *at = text;

    for (; *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');

        if (value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    factor = *at == '\0' ? 1 : 0;
    for (size_t i = 0; i < UNIT_COUNT; i++) {
        if (units[i].type == type && strcmp(at, units[i].name) == 0) {
            factor = units[i].factor;
        }
    }
    if (at == text || factor == 0 || value > UINT64_MAX / factor) {
        return false;
    }
    *ret_value = value * factor;
    return true;
}

static bool word_allowed(const char *words, const char *word)
{
    size_t size = strlen(word);

    while (*words != '\0') {
        size_t length = strcspn(words, "|");

        if (length == size && memcmp(words, word, size) == 0) {
            return true;
        }
        words += length + (words[length] == '|' ? 1 : 0);
    }
    return false;
}

/* What the key takes: "a size from 64K to 1G". */
static void allowed_text(const struct config_key *key, char *buffer, size_t size)
{
    static const char *const nouns[] = {"a number", "a size", "a time", "text", "one of"};
    char min[32];
    char max[32];

    if (key->type == CONFIG_WORD) {
        (void)snprintf(buffer, size, "one of %s", key->unit); /* Cut text is still text. */
    } else if (key->type == CONFIG_TEXT) {
        (void)snprintf(buffer, size, "text of %llu to %llu bytes", (unsigned long long)key->min,
                       (unsigned long long)key->max); /* It fits. */
    } else {
        (void)snprintf(buffer, size, "%s from %s to %s", nouns[key->type],
                       number_text(key->type, key->min, min, sizeof min),
                       number_text(key->type, key->max, max, sizeof max)); /* It fits. */
    }
}

const char *config_value(const struct config *self, enum config_number number, char *buffer)
{
    const struct config_key *key = &keys[number];

    ASSERT(number < CONFIG_COUNT);
    if (key->type == CONFIG_TEXT || key->type == CONFIG_WORD) {
        (void)snprintf(buffer, CONFIG_TEXT_SIZE, "%s", text_at(self, key)); /* It fits. */
        return buffer;
    }
    return number_text(key->type, *number_at(self, key), buffer, CONFIG_TEXT_SIZE);
}

/* ---- setting ---- */

/* "file 'q.conf', line 3: heartbeat_ms = 0" and the like. */
static void place_text(const struct place *place, const char *name, const char *value, char *buffer,
                       size_t size)
{
    char upper[64];
    size_t i;

    switch (place->source) {
    case CONFIG_FILE:
        (void)snprintf(buffer, size, "file '%s', line %u: %s = %.100s", place->path, place->line,
                       name, value);
        break;
    case CONFIG_ENVIRONMENT:
        for (i = 0; name[i] != '\0' && i + 1 < sizeof upper; i++) {
            upper[i] = (char)toupper((unsigned char)name[i]);
        }
        upper[i] = '\0';
        (void)snprintf(buffer, size, "environment: QUORLOG_%s=%.100s", upper, value);
        break;
    case CONFIG_FLAG:
        (void)snprintf(buffer, size, "option --%s %.100s", name, value);
        break;
    case CONFIG_DEFAULT:
    case CONFIG_SHARE:
        (void)snprintf(buffer, size, "default: %s = %.100s", name, value);
        break;
    }
}

/* Capitals are small letters, and '-' is '_'. */
static bool same_name(const char *key, const char *name, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        char c = name[i] == '-' ? '_' : (char)tolower((unsigned char)name[i]);

        if (key[i] == '\0' || key[i] != c) {
            return false;
        }
    }
    return key[size] == '\0';
}

/* -1 for a name that is no key. */
static int find_key(const char *name, size_t size)
{
    for (int i = 0; i < CONFIG_COUNT; i++) {
        if (same_name(keys[i].name, name, size)) {
            return i;
        }
    }
    return -1;
}

static enum err refuse(const struct config_key *key, const char *value, const struct place *place,
                       struct err_info *info)
{
    char where[400];
    char allowed[128];

    place_text(place, key->name, value, where, sizeof where);
    allowed_text(key, allowed, sizeof allowed);
    return err_set(info, ERR_INVALID, "%s: must be %s", where, allowed);
}

/* What a line of the file can hold and give back: no control characters, no space at either end,
 * and nothing that it takes for a comment. */
static bool text_allowed(const char *value)
{
    size_t size = strlen(value);

    for (size_t i = 0; i < size; i++) {
        bool comment = value[i] == ';' && (i == 0 || value[i - 1] == ' ');

        if (iscntrl((unsigned char)value[i]) || comment) {
            return false;
        }
    }
    return size == 0 || (value[0] != ' ' && value[0] != '#' && value[size - 1] != ' ');
}

static enum err set(struct config *self, int number, const char *value, const struct place *place,
                    struct err_info *info)
{
    const struct config_key *key = &keys[number];
    bool kept = self->origins[number].source > place->source;
    size_t size = strlen(value);
    uint64_t parsed = 0;

    ASSERT(number >= 0 && number < CONFIG_COUNT);
    if (key->type == CONFIG_TEXT || key->type == CONFIG_WORD) {
        bool fine = key->type == CONFIG_WORD ? word_allowed(key->unit, value)
                                             : size >= key->min && size <= key->max;

        if (!fine || size >= CONFIG_TEXT_SIZE) {
            return refuse(key, value, place, info);
        }
        if (!text_allowed(value)) {
            return err_set(info, ERR_INVALID,
                           "setting %s: control characters, spaces at the ends and what begins a "
                           "comment in a file cannot be part of it",
                           key->name);
        }
        if (!kept) {
            memcpy(text_at(self, key), value, size + 1);
        }
    } else {
        if (!number_parse(key->type, value, &parsed) || parsed < key->min || parsed > key->max) {
            return refuse(key, value, place, info);
        }
        if (!kept) {
            *number_at(self, key) = parsed;
        }
    }
    if (!kept) {
        self->origins[number].source = place->source;
        self->origins[number].line = place->line;
    }
    return ERR_OK;
}

void config_init(struct config *self)
{
    const struct place place = {.source = CONFIG_DEFAULT};

    memset(self, 0, sizeof *self);
    for (int i = 0; i < CONFIG_COUNT; i++) {
        enum err err = set(self, i, keys[i].value, &place, NULL);

        ASSERT(err == ERR_OK);
    }
}

void config_set_share(struct config *self, enum config_number number, uint64_t value)
{
    ASSERT(number < CONFIG_COUNT);
    ASSERT(value >= keys[number].min && value <= keys[number].max);
    if (self->origins[number].source <= CONFIG_SHARE) {
        *number_at(self, &keys[number]) = value;
        self->origins[number].source = CONFIG_SHARE;
    }
}

enum err config_set_flag(struct config *self, const char *name, const char *value,
                         struct err_info *info)
{
    const struct place place = {.source = CONFIG_FLAG};
    int number = find_key(name, strlen(name));

    ASSERT(value != NULL);
    if (number < 0) {
        return err_set(info, ERR_INVALID, "option --%.100s: there is no such setting", name);
    }
    return set(self, number, value, &place, info);
}

enum err config_read_environment(struct config *self, char *const *environment,
                                 struct err_info *info)
{
    static const char prefix[] = "QUORLOG_";
    const struct place place = {.source = CONFIG_ENVIRONMENT};

    for (; *environment != NULL; environment++) {
        const char *name = *environment + sizeof prefix - 1;
        const char *equals = strchr(*environment, '=');
        int number;
        enum err err;

        if (equals == NULL || strncmp(*environment, prefix, sizeof prefix - 1) != 0) {
            continue;
        }
        number = find_key(name, (size_t)(equals - name));
        if (number < 0) {
            continue;
        }
        err = set(self, number, equals + 1, &place, info);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

/* ---- the file ---- */

struct reader {
    struct config *config;
    const char *path;
    const char *data;
    size_t size;
    size_t position;
    unsigned line;                /* the one that was read last */
    unsigned lines[CONFIG_COUNT]; /* where each key stood; 0: not yet */
    char bootstrap[CONFIG_TEXT_SIZE];
    enum err err; /* the first one; the rest is read and ignored */
    struct err_info *info;
};

static bool reader_failed(const struct reader *self)
{
    return self->err != ERR_OK;
}

/* As fgets. A line that inih could not hold is refused here: it would silently be two. */
static char *reader_line(char *to, int size, void *stream)
{
    struct reader *self = stream;
    size_t rest = self->size - self->position;
    const char *from;
    const char *newline;
    size_t length;

    ASSERT(size > CONFIG_LINE_SIZE_MAX + 2);
    if (rest == 0 || reader_failed(self)) {
        return NULL; /* Of an empty file there are no data to point into. */
    }
    from = self->data + self->position;
    newline = memchr(from, '\n', rest);
    length = newline == NULL ? rest : (size_t)(newline - from) + 1;
    self->line++;
    if (length > CONFIG_LINE_SIZE_MAX || memchr(from, '\0', length) != NULL) {
        self->err =
            err_set(self->info, ERR_INVALID, "file '%s', line %u: %s", self->path, self->line,
                    length > CONFIG_LINE_SIZE_MAX ? "longer than 190 bytes" : "a zero byte");
        return NULL;
    }
    memcpy(to, from, length);
    to[length] = '\0';
    self->position += length;
    return to;
}

static enum err reader_bootstrap(struct reader *self, const char *value)
{
    size_t size = strlen(self->bootstrap);
    bool comma = size > 0 && self->bootstrap[size - 1] != ',';
    int more = snprintf(self->bootstrap + size, sizeof self->bootstrap - size, "%s%s",
                        comma ? "," : "", value);

    ASSERT(more >= 0);
    if ((size_t)more >= sizeof self->bootstrap - size) {
        return err_set(self->info, ERR_INVALID, "file '%s', line %u: bootstrap is too long",
                       self->path, self->line);
    }
    return ERR_OK;
}

static enum err reader_value(struct reader *self, const char *section, const char *name,
                             const char *value)
{
    const struct place place = {.source = CONFIG_FILE, .path = self->path, .line = self->line};
    int number = find_key(name, strlen(name));
    enum err err = ERR_OK;

    if (section[0] != '\0') {
        return err_set(self->info, ERR_INVALID, "file '%s', line %u: there are no sections here",
                       self->path, self->line);
    }
    if (number < 0) {
        return err_set(self->info, ERR_INVALID, "file '%s', line %u: %s: there is no such setting",
                       self->path, self->line, name);
    }
    if (number == CONFIG_bootstrap) {
        err = reader_bootstrap(self, value);
        value = self->bootstrap;
    } else if (self->lines[number] != 0) {
        err = err_set(self->info, ERR_INVALID, "file '%s', line %u: %s was given on line %u before",
                      self->path, self->line, keys[number].name, self->lines[number]);
    }
    self->lines[number] = self->line;
    return err != ERR_OK ? err : set(self->config, number, value, &place, self->info);
}

static int reader_handle(void *user, const char *section, const char *name, const char *value)
{
    struct reader *self = user;

    if (!reader_failed(self)) {
        self->err = reader_value(self, section, name, value);
    }
    return !reader_failed(self);
}

enum err config_read_file(struct config *self, const char *path, struct err_info *info)
{
    struct reader reader = {.config = self, .path = path, .info = info};
    struct buf data;
    enum err err;
    int rv;

    buf_init(&data, CONFIG_FILE_SIZE_MAX);
    err = io_read_file(io_real(), path, CONFIG_FILE_SIZE_MAX, &data, info);
    if (err != ERR_OK) {
        goto out;
    }
    (void)snprintf(self->path, sizeof self->path, "%s", path); /* For texts only. */
    reader.data = (const char *)data.data;
    reader.size = data.size;
    rv = ini_parse_stream(reader_line, &reader, reader_handle, &reader);
    err = reader.err;
    if (err == ERR_OK && rv < 0) {
        err = err_set(info, ERR_NOMEM, "file '%s': no memory", path);
    }
    if (err == ERR_OK && rv > 0) {
        err = err_set(info, ERR_INVALID, "file '%s', line %d: not of the form `name = value`", path,
                      rv);
    }
out:
    buf_fini(&data);
    return err;
}

/* ---- all values together ---- */

/* "2=n2:7437" */
static enum err add_member(struct membership *members, const char *text, size_t size,
                           struct err_info *info)
{
    char address[MEMBER_ADDRESS_SIZE];
    char host[256];
    char port[8];
    uint64_t id = 0;
    size_t at = 0;
    enum err err;

    while (at < size && text[at] >= '0' && text[at] <= '9' && id < INT64_MAX / 10) {
        id = id * 10 + (uint64_t)(text[at] - '0');
        at++;
    }
    if (at == 0 || at >= size || text[at] != '=' || size - at - 1 >= sizeof address) {
        return err_set(info, ERR_INVALID, "bootstrap: '%.*s' is not of the form ID=HOST:PORT",
                       (int)(size > 100 ? 100 : size), text);
    }
    memcpy(address, text + at + 1, size - at - 1);
    address[size - at - 1] = '\0';
    err = address_split(address, host, port, info);
    if (err != ERR_OK) {
        return err_prefix(info, err, "bootstrap: node %llu", (unsigned long long)id);
    }
    if (host[0] == '\0' || strcmp(port, "0") == 0) {
        return err_set(info, ERR_INVALID, "bootstrap: '%s' lacks a host or a port", address);
    }
    err = membership_add(members, id, address, MEMBER_VOTER);
    if (err != ERR_OK) {
        return err_set(info, ERR_INVALID, "bootstrap: node %llu at '%s': %s",
                       (unsigned long long)id, address,
                       err == ERR_EXISTS ? "its number or address is there twice" : err_text(err));
    }
    return ERR_OK;
}

enum err config_membership(const struct config *self, struct membership *ret_members,
                           struct err_info *info)
{
    struct membership members = {.count = 0};
    char address[MEMBER_ADDRESS_SIZE];
    const char *at = self->bootstrap;
    enum err err = ERR_OK;

    if (*at == '\0') {
        config_advertised(self, address);
        err = membership_add(&members, self->id, address, MEMBER_VOTER);
        ASSERT(err == ERR_OK);
    }
    while (*at != '\0') {
        size_t size = strcspn(at, ",");

        err = add_member(&members, at, size, info);
        if (err != ERR_OK) {
            return err;
        }
        at += size + (at[size] == ',' ? 1 : 0);
    }
    *ret_members = members;
    return ERR_OK;
}

void config_advertised(const struct config *self, char ret_address[MEMBER_ADDRESS_SIZE])
{
    struct membership members;
    const struct member *member = NULL;
    const char *address = self->advertise[0] != '\0' ? self->advertise : self->listen;

    if (self->bootstrap[0] != '\0' && config_membership(self, &members, NULL) == ERR_OK) {
        member = membership_find(&members, self->id);
    }
    address = member != NULL ? member->address : address;
    (void)snprintf(ret_address, MEMBER_ADDRESS_SIZE, "%.263s", address); /* The table allows 261. */
}

static enum err validate_addresses(const struct config *self, struct err_info *info)
{
    char host[256];
    char port[8];
    const char *address = self->advertise;
    enum err err = address_split(self->listen, host, port, info);

    if (err != ERR_OK) {
        return err_prefix(info, err, "listen");
    }
    if (address[0] == '\0' && self->bootstrap[0] == '\0') {
        if (host[0] == '\0' || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0) {
            return err_set(info, ERR_INVALID,
                           "listen: '%s' is every address of this machine; set advertise to the "
                           "one under which others reach it",
                           self->listen);
        }
        return ERR_OK;
    }
    if (address[0] == '\0') {
        return ERR_OK;
    }
    err = address_split(address, host, port, info);
    if (err != ERR_OK) {
        return err_prefix(info, err, "advertise");
    }
    if (host[0] == '\0' || strcmp(port, "0") == 0) {
        return err_set(info, ERR_INVALID, "advertise: '%s' lacks a host or a port", address);
    }
    return ERR_OK;
}

static enum err validate_members(const struct config *self, struct err_info *info)
{
    struct membership members;
    const struct member *member;
    enum err err = config_membership(self, &members, info);

    if (err != ERR_OK) {
        return err;
    }
    if (self->join[0] != '\0' && self->bootstrap[0] != '\0') {
        return err_set(
            info, ERR_INVALID,
            "join and bootstrap: a node joins a cluster, or is one of its first members");
    }
    member = membership_find(&members, self->id);
    if (member == NULL) {
        return err_set(info, ERR_INVALID,
                       "bootstrap: this node's id, %llu, is not in the list '%.300s'",
                       (unsigned long long)self->id, self->bootstrap);
    }
    if (self->bootstrap[0] != '\0' && self->advertise[0] != '\0' &&
        strcmp(member->address, self->advertise) != 0) {
        return err_set(info, ERR_INVALID,
                       "advertise: '%s' differs from this node's address in bootstrap, '%s'",
                       self->advertise, member->address);
    }
    return ERR_OK;
}

enum err config_validate(const struct config *self, struct err_info *info)
{
    enum { FRAME_OVERHEAD = FRAME_PREFIX_SIZE + FRAME_HEADER_SIZE_MAX };
    size_t size = strspn(self->cluster, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                        "0123456789._-");
    enum err err;

    if (self->cluster[size] != '\0') {
        return err_set(info, ERR_INVALID,
                       "cluster: '%s': a name is made of letters, digits, '.', '_' and '-'",
                       self->cluster);
    }
    if (self->election_ms < 2 * self->heartbeat_ms) {
        return err_set(info, ERR_INVALID,
                       "election_ms = %llu: must be at least twice heartbeat_ms, which is %llu",
                       (unsigned long long)self->election_ms,
                       (unsigned long long)self->heartbeat_ms);
    }
    if (self->frame_size_max < self->batch_size_max + FRAME_OVERHEAD) {
        return err_set(info, ERR_INVALID,
                       "frame_size_max = %llu: must exceed batch_size_max, %llu, by at least %d",
                       (unsigned long long)self->frame_size_max,
                       (unsigned long long)self->batch_size_max, (int)FRAME_OVERHEAD);
    }
    err = validate_addresses(self, info);
    return err != ERR_OK ? err : validate_members(self, info);
}

/* ---- printing ---- */

static const char *origin_text(const struct config *self, int number, char *buffer, size_t size)
{
    switch (self->origins[number].source) {
    case CONFIG_FILE:
        (void)snprintf(buffer, size, "%s, line %u", self->path, self->origins[number].line);
        return buffer;
    case CONFIG_ENVIRONMENT:
        return "environment";
    case CONFIG_FLAG:
        return "option";
    case CONFIG_SHARE:
        return "a share of memory";
    case CONFIG_DEFAULT:
        break;
    }
    return "default";
}

/* A list of members that is long takes several lines: a line of the file is bounded. */
static enum err print_value(int number, const char *value, struct buf *to)
{
    enum err err = ERR_OK;

    do {
        size_t size = number == CONFIG_bootstrap ? strcspn(value, ",") : strlen(value);

        err = buf_printf(to, "%s = %.*s\n", keys[number].name, (int)size, value);
        value += size + (value[size] == ',' ? 1 : 0);
    } while (err == ERR_OK && *value != '\0');
    return err;
}

enum err config_print(const struct config *self, bool sample, struct buf *to)
{
    char value[CONFIG_TEXT_SIZE];
    char origin[CONFIG_TEXT_SIZE + 32];
    char allowed[128];
    enum err err = ERR_OK;

    for (int i = 0; i < CONFIG_COUNT && err == ERR_OK; i++) {
        (void)config_value(self, (enum config_number)i, value);
        if (sample) {
            allowed_text(&keys[i], allowed, sizeof allowed);
            err = buf_printf(to, "# %s\n# (%s)\n#%s = %s\n\n", keys[i].help, allowed, keys[i].name,
                             value);
        } else {
            err = buf_printf(to, "# %s\n", origin_text(self, i, origin, sizeof origin));
            err = err != ERR_OK ? err : print_value(i, value, to);
        }
    }
    return err;
}

/*
 * The link proxy: stands before every node's advertised address, so that what nodes say to one
 * another can be held, lost, delayed and cut, for each direction alone. Needs no privileges.
 *
 *      proxy [--seed N]
 *
 * Commands are read from standard input, a line each, and each is answered by a line on standard
 * output: "ok", "error: TEXT", or JSON. A and B are numbers of nodes, 0 all clients, * all nodes.
 *
 *      node A LISTEN TARGET     A is reached at LISTEN, and really is at TARGET (IP:port)
 *      move A TARGET            it is there from now on
 *      remove A                 no more; its connections are reset
 *      block A B                what A tells B is held, ends and resets too; connections stay
 *      drop A B                 it is lost; connections that lost something are reset at the end
 *      open A B                 ends block and drop
 *      delay A B MS [JITTER]    what A tells B comes so much later, give or take JITTER
 *      rate A B BYTES           a second; 0: no bound
 *      cut A B                  resets all connections between the two
 *      heal                     as at the beginning
 *      stats                    bytes that passed and were lost, by lane, as JSON
 *
 * The end of standard input ends it. --seed fixes the jitter.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/assert.h"
#include "nemesis/network.h"

enum { LINE_SIZE = 1024, WORDS_MAX = 6, MILLISECONDS_MAX = 600000 };

struct proxy {
    uv_loop_t *loop;
    struct network *network;
    uv_pipe_t input;
    size_t line_size;
    char line[LINE_SIZE];
    bool overlong; /* the rest of this line is skipped */
};

/* ---- changes of a condition ---- */

static void change_state(struct lane_condition *condition, const void *arg)
{
    condition->state = *(const enum lane_state *)arg;
}

static void change_delay(struct lane_condition *condition, const void *arg)
{
    const struct lane_condition *wanted = arg;

    condition->delay_us = wanted->delay_us;
    condition->jitter_us = wanted->jitter_us;
}

static void change_rate(struct lane_condition *condition, const void *arg)
{
    condition->rate = ((const struct lane_condition *)arg)->rate;
}

static void change_all(struct lane_condition *condition, const void *arg)
{
    *condition = *(const struct lane_condition *)arg;
}

/* ---- words ---- */

static enum err parse_number(const char *text, uint64_t max, uint64_t *ret_value,
                             struct err_info *info)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);

    if (text[0] < '0' || text[0] > '9' || *end != '\0' || value > max) {
        return err_set(info, ERR_INVALID, "'%s': a number up to %" PRIu64 " is wanted", text, max);
    }
    *ret_value = value;
    return ERR_OK;
}

static enum err parse_node(const char *text, int64_t *ret_node, struct err_info *info)
{
    uint64_t value;
    enum err err;

    if (strcmp(text, "*") == 0) {
        *ret_node = NETWORK_ANY;
        return ERR_OK;
    }
    err = parse_number(text, INT64_MAX, &value, info);
    if (err == ERR_OK) {
        *ret_node = (int64_t)value;
    }
    return err;
}

static enum err parse_pair(char *const words[], int64_t ret_pair[2], struct err_info *info)
{
    enum err err = parse_node(words[1], &ret_pair[0], info);

    return err == ERR_OK ? parse_node(words[2], &ret_pair[1], info) : err;
}

/* ---- commands ---- */

static enum err run_node(struct proxy *self, char *const words[], int count, struct err_info *info)
{
    uint64_t id;
    enum err err = parse_number(words[1], INT64_MAX, &id, info);

    (void)count;
    if (err == ERR_OK && id == NETWORK_CLIENTS) {
        err = err_set(info, ERR_INVALID, "0 stands for clients");
    }
    return err == ERR_OK ? network_add(self->network, id, words[2], words[3], info) : err;
}

static enum err run_remove(struct proxy *self, char *const words[], int count,
                           struct err_info *info)
{
    uint64_t id;
    enum err err = parse_number(words[1], INT64_MAX, &id, info);

    (void)count;
    return err == ERR_OK ? network_remove(self->network, id, info) : err;
}

static enum err run_move(struct proxy *self, char *const words[], int count, struct err_info *info)
{
    uint64_t id;
    enum err err = parse_number(words[1], INT64_MAX, &id, info);

    (void)count;
    return err == ERR_OK ? network_move(self->network, id, words[2], info) : err;
}

static enum err run_state(struct proxy *self, char *const words[], int count, struct err_info *info)
{
    enum lane_state state = LANE_OPEN;
    int64_t pair[2];
    enum err err = parse_pair(words, pair, info);

    (void)count;
    if (words[0][0] == 'b') {
        state = LANE_BLOCKED;
    } else if (words[0][0] == 'd') {
        state = LANE_DROPPING;
    }
    return err == ERR_OK ? network_change(self->network, pair[0], pair[1], change_state, &state)
                         : err;
}

static enum err run_delay(struct proxy *self, char *const words[], int count, struct err_info *info)
{
    uint64_t delay_ms = 0;
    uint64_t jitter_ms = 0;
    int64_t pair[2];
    enum err err = parse_pair(words, pair, info);

    if (err == ERR_OK) {
        err = parse_number(words[3], MILLISECONDS_MAX, &delay_ms, info);
    }
    if (err == ERR_OK && count > 4) {
        err = parse_number(words[4], MILLISECONDS_MAX, &jitter_ms, info);
    }
    if (err == ERR_OK) {
        struct lane_condition wanted = {.delay_us = delay_ms * 1000, .jitter_us = jitter_ms * 1000};

        err = network_change(self->network, pair[0], pair[1], change_delay, &wanted);
    }
    return err;
}

static enum err run_rate(struct proxy *self, char *const words[], int count, struct err_info *info)
{
    struct lane_condition wanted = {0};
    int64_t pair[2];
    enum err err = parse_pair(words, pair, info);

    (void)count;
    if (err == ERR_OK) {
        err = parse_number(words[3], UINT32_MAX, &wanted.rate, info);
    }
    return err == ERR_OK ? network_change(self->network, pair[0], pair[1], change_rate, &wanted)
                         : err;
}

static enum err run_cut(struct proxy *self, char *const words[], int count, struct err_info *info)
{
    int64_t pair[2];
    enum err err = parse_pair(words, pair, info);

    (void)count;
    if (err == ERR_OK) {
        network_cut(self->network, pair[0], pair[1]);
    }
    return err;
}

static enum err run_heal(struct proxy *self, char *const words[], int count, struct err_info *info)
{
    const struct lane_condition healed = {0};
    enum err err = network_change(self->network, NETWORK_ANY, NETWORK_ANY, change_all, &healed);

    (void)words;
    (void)count;
    (void)info;
    if (err == ERR_OK) {
        err = network_change(self->network, NETWORK_CLIENTS, NETWORK_ANY, change_all, &healed);
    }
    if (err == ERR_OK) {
        err = network_change(self->network, NETWORK_ANY, NETWORK_CLIENTS, change_all, &healed);
    }
    return err;
}

static const struct command {
    const char *name;
    int words_min;
    int words_max;
    enum err (*run)(struct proxy *self, char *const words[], int count, struct err_info *info);
} commands[] = {
    {"node", 4, 4, run_node},   {"move", 3, 3, run_move},  {"remove", 2, 2, run_remove},
    {"block", 3, 3, run_state}, {"drop", 3, 3, run_state}, {"open", 3, 3, run_state},
    {"delay", 4, 5, run_delay}, {"rate", 4, 4, run_rate},  {"cut", 3, 3, run_cut},
    {"heal", 1, 1, run_heal},
};

static enum err run_words(struct proxy *self, char *const words[], int count, struct err_info *info)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        const struct command *command = &commands[i];

        if (strcmp(words[0], command->name) != 0) {
            continue;
        }
        if (count < command->words_min || count > command->words_max) {
            return err_set(info, ERR_INVALID, "%s: too few or too many words", command->name);
        }
        return command->run(self, words, count, info);
    }
    return err_set(info, ERR_INVALID, "there is no command '%s'", words[0]);
}

static void run_line(struct proxy *self, char *line)
{
    char *words[WORDS_MAX + 1];
    char *rest = NULL;
    int count = 0;
    struct err_info info = {0};

    for (char *word = strtok_r(line, " \t", &rest); word != NULL && count <= WORDS_MAX;
         word = strtok_r(NULL, " \t", &rest)) {
        words[count++] = word;
    }
    if (count == 0) {
        return;
    }
    if (count == 1 && strcmp(words[0], "stats") == 0) {
        network_print(self->network, stdout);
    } else {
        enum err err = run_words(self, words, count, &info);

        if (err == ERR_OK) {
            (void)printf("ok\n"); /* Nobody reads: the input ends soon. */
        } else {
            (void)printf("error: %s\n", info.text[0] != '\0' ? info.text : err_text(err));
        }
    }
    (void)fflush(stdout); /* As above. */
}

/* ---- standard input ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct proxy *self = handle->data;

    (void)suggested;
    *ret_buf =
        uv_buf_init(self->line + self->line_size, (unsigned)(sizeof self->line - self->line_size));
}

static void take_lines(struct proxy *self)
{
    char *end;

    while ((end = memchr(self->line, '\n', self->line_size)) != NULL) {
        size_t size = (size_t)(end - self->line) + 1;

        *end = '\0';
        if (self->overlong) {
            (void)printf("error: a line of more than %d bytes\n", LINE_SIZE); /* As above. */
            (void)fflush(stdout);
            self->overlong = false;
        } else {
            run_line(self, self->line);
        }
        self->line_size -= size;
        memmove(self->line, self->line + size, self->line_size);
    }
    if (self->line_size == sizeof self->line) {
        self->line_size = 0;
        self->overlong = true;
    }
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct proxy *self = stream->data;

    (void)buf;
    if (count < 0) {
        exit(EXIT_SUCCESS); /* Connections are reset or closed by the kernel. */
    }
    self->line_size += (size_t)count;
    ASSERT(self->line_size <= sizeof self->line);
    take_lines(self);
}

int main(int argc, char **argv)
{
    static struct proxy self;
    struct err_info info = {0};
    uint64_t seed = 1;

    if (argc != 1 && (argc != 3 || strcmp(argv[1], "--seed") != 0 ||
                      parse_number(argv[2], UINT64_MAX, &seed, &info) != ERR_OK)) {
        (void)fprintf(stderr, "usage: proxy [--seed N]\n");
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN); /* Always succeeds. */
    self.loop = uv_default_loop();
    self.network = self.loop == NULL ? NULL : network_new(self.loop, seed);
    if (self.network == NULL || uv_pipe_init(self.loop, &self.input, 0) != 0 ||
        uv_pipe_open(&self.input, STDIN_FILENO) != 0) {
        (void)fprintf(stderr, "proxy: no loop, or no standard input\n");
        return 1;
    }
    self.input.data = &self;
    if (uv_read_start((uv_stream_t *)&self.input, on_alloc, on_read) != 0) {
        (void)fprintf(stderr, "proxy: standard input cannot be read\n");
        return 1;
    }
    (void)uv_run(self.loop, UV_RUN_DEFAULT); /* Until standard input ends. */
    return 0;
}

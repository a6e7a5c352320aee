/*
 * floor: what this machine allows for Quorlog's design. See docs/performance.md.
 *
 *      floor disk       payload bytes a second of one of N writers, both writes counted
 *      floor latency    one durable write of a small entry, N writers side by side
 *      floor loopback   a round trip of a small frame, and a stream, over TCP on loopback
 *      floor read       reading a file from the disk and from the page cache, one piece after the
 * other floor core       entries a second of three raft cores in one process, without I/O
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "floor_core.h"
#include "floor_disk.h"

enum {
    FRAME_SIZE = 256,
    STREAM_SIZE = 256 << 10,
    READ_SIZE = 1 << 20,
    READ_FILE_SIZE = 256 << 20,
};

struct settings {
    struct floor_load load;
    unsigned propose_size; /* entries in a proposal */
    bool json;
};

static double now_s(void)
{
    return (double)clock_real()->monotonic_ns(clock_real()) / 1e9;
}

_Noreturn static void die(const char *text)
{
    perror(text);
    exit(1);
}

/* ---- disk ---- */

static int run_disk(const struct settings *settings)
{
    struct floor_disk_result result;

    if (!floor_disk(&settings->load, &result)) {
        return 1;
    }
    if (settings->json) {
        printf("{\"bytes_per_s\": %.0f, \"journal_write_bytes\": %llu, \"journal_p50_ms\": %.4f, "
               "\"journal_p99_ms\": %.4f}\n",
               result.bytes_per_s, (unsigned long long)result.journal_extent,
               (double)histogram_quantile(&result.latency, 0.5) / 1e6,
               (double)histogram_quantile(&result.latency, 0.99) / 1e6);
    } else {
        printf("%.1f MB/s of payload for one of %u writers, %llu bytes a journal write\n",
               result.bytes_per_s / 1e6, settings->load.writers,
               (unsigned long long)result.journal_extent);
    }
    return 0;
}

static int run_latency(const struct settings *settings)
{
    struct floor_load load = settings->load;
    struct floor_disk_result result;
    double p50;
    double p99;

    load.batch_size = load.record_size;
    load.second = FLOOR_SECOND_NONE;
    if (!floor_disk(&load, &result)) {
        return 1;
    }
    p50 = (double)histogram_quantile(&result.latency, 0.5) / 1e6;
    p99 = (double)histogram_quantile(&result.latency, 0.99) / 1e6;
    printf(settings->json ? "{\"p50_ms\": %.4f, \"p99_ms\": %.4f}\n"
                          : "p50 %.3f ms, p99 %.3f ms for a durable write\n",
           p50, p99);
    return 0;
}

/* ---- loopback ---- */

static void send_all(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);

        if (n <= 0) {
            die("floor: send");
        }
        data += n;
        size -= (size_t)n;
    }
}

/* False at the end of the stream. */
static bool receive_all(int fd, uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = recv(fd, data, size, 0);

        if (n < 0) {
            die("floor: receive");
        }
        if (n == 0) {
            return false;
        }
        data += n;
        size -= (size_t)n;
    }
    return true;
}

/* Two ends of one TCP connection. */
static void connect_pair(int ret_ends[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;

    ret_ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || ret_ends[0] < 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0 ||
        connect(ret_ends[0], (struct sockaddr *)&address, size) != 0) {
        die("floor: connect");
    }
    ret_ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (ret_ends[1] < 0) {
        die("floor: accept");
    }
    (void)close(listener);
    for (int i = 0; i < 2; i++) {
        if (setsockopt(ret_ends[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0) {
            die("floor: TCP_NODELAY");
        }
    }
}

static void *echo_main(void *arg)
{
    const int *fd = arg;
    uint8_t frame[FRAME_SIZE];

    while (receive_all(*fd, frame, sizeof frame)) {
        send_all(*fd, frame, sizeof frame);
    }
    return NULL;
}

static void *drain_main(void *arg)
{
    static uint8_t data[STREAM_SIZE];
    const int *fd = arg;

    while (receive_all(*fd, data, sizeof data)) {
    }
    return NULL;
}

static void measure_round_trips(double seconds, struct histogram *latency)
{
    uint8_t frame[FRAME_SIZE] = {0};
    double until = now_s() + seconds;
    pthread_t thread;
    int ends[2];

    connect_pair(ends);
    if (pthread_create(&thread, NULL, echo_main, &ends[1]) != 0) {
        die("floor: thread");
    }
    while (now_s() < until) {
        double begin = now_s();

        send_all(ends[0], frame, sizeof frame);
        if (!receive_all(ends[0], frame, sizeof frame)) {
            die("floor: receive");
        }
        histogram_add(latency, (uint64_t)((now_s() - begin) * 1e9));
    }
    (void)close(ends[0]);
    (void)pthread_join(thread, NULL); /* It ends with the stream. */
    (void)close(ends[1]);
}

/* Bytes a second. */
static double measure_stream(double seconds)
{
    static const uint8_t data[STREAM_SIZE];
    double begin = now_s();
    double bytes = 0;
    pthread_t thread;
    int ends[2];

    connect_pair(ends);
    if (pthread_create(&thread, NULL, drain_main, &ends[1]) != 0) {
        die("floor: thread");
    }
    while (now_s() < begin + seconds) {
        send_all(ends[0], data, sizeof data);
        bytes += sizeof data;
    }
    (void)close(ends[0]);
    (void)pthread_join(thread, NULL); /* It ends with the stream. */
    (void)close(ends[1]);
    return bytes / (now_s() - begin);
}

static int run_loopback(const struct settings *settings)
{
    struct histogram *latency = calloc(1, sizeof *latency);
    double rate;

    ASSERT(latency != NULL);
    measure_round_trips(settings->load.seconds / 2, latency);
    rate = measure_stream(settings->load.seconds / 2);
    printf(settings->json ? "{\"round_trip_p50_ms\": %.4f, \"round_trip_p99_ms\": %.4f, "
                            "\"stream_bytes_per_s\": %.0f}\n"
                          : "round trip p50 %.3f ms, p99 %.3f ms; a stream of %.0f bytes/s\n",
           (double)histogram_quantile(latency, 0.5) / 1e6,
           (double)histogram_quantile(latency, 0.99) / 1e6, rate);
    free(latency);
    return 0;
}

/* ---- read ---- */

static int make_file(const char *dir, uint8_t *data)
{
    char path[PATH_MAX];
    int fd;

    (void)snprintf(path, sizeof path, "%s/read", dir); /* Cut: open says so. */
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0) {
        die("floor: open");
    }
    (void)unlink(path);
    for (size_t at = 0; at < READ_FILE_SIZE; at += READ_SIZE) {
        if (pwrite(fd, data, READ_SIZE, (off_t)at) != READ_SIZE) {
            die("floor: write");
        }
    }
    return fd;
}

/* Bytes a second, for so long; or of one pass, when seconds is 0. */
static double read_file(int fd, uint8_t *data, double seconds)
{
    double begin = now_s();
    double bytes = 0;
    size_t at = 0;

    do {
        if (pread(fd, data, READ_SIZE, (off_t)at) != READ_SIZE) {
            die("floor: read");
        }
        bytes += READ_SIZE;
        at = (at + READ_SIZE) % READ_FILE_SIZE;
    } while (seconds > 0 ? now_s() < begin + seconds : at != 0);
    return bytes / (now_s() - begin);
}

/* Only what is clean leaves the page cache. */
static void forget(int fd)
{
    if (fdatasync(fd) != 0) {
        die("floor: sync");
    }
    if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0) {
        die("floor: page cache");
    }
}

static int run_read(const struct settings *settings)
{
    uint8_t *data = calloc(1, READ_SIZE);
    double cold;
    double rate;
    int fd;

    ASSERT(data != NULL);
    fd = make_file(settings->load.dir, data);
    forget(fd);
    cold = read_file(fd, data, 0);
    rate = read_file(fd, data, settings->load.seconds);
    (void)close(fd);
    free(data);
    printf(settings->json ? "{\"cold_bytes_per_s\": %.0f, \"bytes_per_s\": %.0f}\n"
                          : "%.0f bytes/s from the disk, %.0f from the page cache\n",
           cold, rate);
    return 0;
}

/* ---- core ---- */

static int run_core(const struct settings *settings)
{
    struct floor_core_load load = {.seconds = settings->load.seconds / 2,
                                   .entry_size = settings->load.record_size,
                                   .propose_size = settings->propose_size};
    double together = floor_core(&load);
    double one;

    load.propose_size = 1;
    one = floor_core(&load);
    printf(settings->json ? "{\"entries_per_s\": %.0f, \"one_at_a_time_per_s\": %.0f}\n"
                          : "%.0f entries/s proposed together, %.0f one at a time\n",
           together, one);
    return 0;
}

/* ---- main ---- */

static const struct {
    const char *name;
    int (*run)(const struct settings *settings);
} modes[] = {
    {"disk", run_disk}, {"latency", run_latency}, {"loopback", run_loopback},
    {"read", run_read}, {"core", run_core},
};

static int usage(void)
{
    (void)fputs(
        "usage: floor disk|latency|loopback|read|core [--dir D] [--seconds S] [--writers N]\n"
        "             [--record-size R] [--batch-bytes B] [--client-batch-bytes C]\n"
        "             [--second none|buffered|chunked|direct|memory] [--propose N]\n"
        "             [--json]\n",
        stderr);
    return 2;
}

/* Of what was given for an option; 0 when it is no number. */
static uint64_t number_of(const char *text, uint64_t max)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);

    return *end == '\0' && value <= max ? value : 0;
}

static bool parse(int argc, char **argv, struct settings *settings)
{
    static const struct option options[] = {
        {"dir", required_argument, NULL, 'd'},
        {"seconds", required_argument, NULL, 's'},
        {"writers", required_argument, NULL, 'w'},
        {"record-size", required_argument, NULL, 'r'},
        {"batch-bytes", required_argument, NULL, 'b'},
        {"client-batch-bytes", required_argument, NULL, 'c'},
        {"second", required_argument, NULL, '2'},
        {"propose", required_argument, NULL, 'p'},
        {"json", no_argument, NULL, 'j'},
        {NULL, 0, NULL, 0},
    };
    struct floor_load *load = &settings->load;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'd':
            load->dir = optarg;
            break;
        case 's':
            load->seconds = strtod(optarg, NULL);
            break;
        case 'w':
            load->writers = (unsigned)number_of(optarg, FLOOR_WRITERS_MAX);
            break;
        case 'r':
            load->record_size = number_of(optarg, 8 << 20);
            break;
        case 'b':
            load->batch_size = number_of(optarg, 16 << 20);
            break;
        case 'c':
            load->client_batch_size = number_of(optarg, 16 << 20);
            break;
        case '2':
            if (!floor_second_of(optarg, &load->second)) {
                return false;
            }
            break;
        case 'p':
            settings->propose_size = (unsigned)number_of(optarg, FLOOR_CORE_PROPOSE_MAX);
            break;
        case 'j':
            settings->json = true;
            break;
        default:
            return false;
        }
    }
    return optind == argc && load->writers > 0 && load->record_size > 0 && load->batch_size > 0 &&
           load->client_batch_size > 0 && settings->propose_size > 0 && load->seconds > 0 &&
           load->seconds < 3600;
}

int main(int argc, char **argv)
{
    struct settings settings = {
        .load = {.dir = ".",
                 .writers = 3,
                 .seconds = 2,
                 .record_size = 100,
                 .batch_size = 256 << 10,
                 .client_batch_size = 256 << 10,
                 .second = FLOOR_SECOND_BUFFERED},
        .propose_size = 64,
    };

    if (argc < 2 || !parse(argc - 1, argv + 1, &settings)) {
        return usage();
    }
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(argv[1], modes[i].name) == 0) {
            return modes[i].run(&settings);
        }
    }
    return usage();
}

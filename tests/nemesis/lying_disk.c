/*
 * A disk that lies: preloaded into a node, it makes every sync a success that did nothing, from two
 * seconds after the process began. (What is made at start is durable, so that what a power cut
 * takes is records, not whole directories.) A power cut then loses what was acknowledged, so that a
 * run must go red; one that does not proves nothing.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { HONEST_S = 2 };

static bool lies(void)
{
    static time_t begin; /* Several threads may set it; to the same, or nearly. */
    struct timespec now;

    (void)syscall(SYS_clock_gettime, CLOCK_BOOTTIME, &now); /* Exists since Linux 2.6.39. */
    if (__atomic_load_n(&begin, __ATOMIC_RELAXED) == 0) {
        __atomic_store_n(&begin, now.tv_sec, __ATOMIC_RELAXED);
    }
    return now.tv_sec - __atomic_load_n(&begin, __ATOMIC_RELAXED) > HONEST_S;
}

int fsync(int fd)
{
    return lies() ? 0 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return lies() ? 0 : (int)syscall(SYS_fdatasync, fd);
}

int sync_file_range(int fd, off_t offset, off_t count, unsigned flags)
{
    return lies() ? 0 : (int)syscall(SYS_sync_file_range, fd, offset, count, flags);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    return syscall(SYS_pwritev2, fd, iov, count, offset, 0L, lies() ? 0 : flags);
}

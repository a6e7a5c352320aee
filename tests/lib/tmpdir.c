#include "lib/tmpdir.h"

#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"

const char *tmpdir_new(void)
{
    const char *parent = getenv("TMPDIR");
    char *path = NULL;
    int size = asprintf(&path, "%s/quorlog-test-XXXXXX",
                        parent == NULL || parent[0] == '\0' ? "/tmp" : parent);

    ASSERT(size > 0);
    ASSERT(mkdtemp(path) == path);
    return path;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void tmpdir_remove(const char *path)
{
    enum { FDS = 16 };

    if (path == NULL) {
        return;
    }
    ASSERT(nftw(path, remove_one, FDS, FTW_DEPTH | FTW_PHYS) == 0);
    free((void *)(uintptr_t)path);
}

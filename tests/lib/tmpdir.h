/*
 * A directory of its own for a test that needs real files.
 */
#ifndef QUORLOG_TESTS_LIB_TMPDIR_H
#define QUORLOG_TESTS_LIB_TMPDIR_H

/* Makes an empty directory under $TMPDIR, or /tmp, and returns its path, owned by the caller until
 * tmpdir_remove. Aborts when that cannot be done: no test can go on. */
const char *tmpdir_new(void);

/* Removes the directory with all that is in it and frees path. NULL is fine. */
void tmpdir_remove(const char *path);

#endif

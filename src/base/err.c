#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"

struct row {
    enum err err;
    enum err_outcome outcome;
    bool retryable;
    const char *name;
    const char *text;
};

static const struct row rows[] = {
#define ERR_ROW(name, number, outcome, retryable, text)                                            \
    {ERR_##name, ERR_OUTCOME_##outcome, retryable, #name, text},
    ERR_MAP(ERR_ROW)
#undef ERR_ROW
};

static const struct row *find(int number)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if ((int)rows[i].err == number) {
            return &rows[i];
        }
    }
    return NULL;
}

const char *err_text(enum err err)
{
    const struct row *row = find((int)err);

    return row == NULL ? "unknown error" : row->text;
}

const char *err_name(enum err err)
{
    const struct row *row = find((int)err);

    return row == NULL ? "UNKNOWN" : row->name;
}

bool err_from_number(int number, enum err *ret_err)
{
    const struct row *row = find(number);

    if (row == NULL) {
        return false;
    }
    *ret_err = row->err;
    return true;
}

enum err_outcome err_outcome(enum err err)
{
    const struct row *row = find((int)err);

    /* A code from the future: nothing can be promised about what it did. */
    return row == NULL ? ERR_OUTCOME_UNKNOWN : row->outcome;
}

bool err_retryable(enum err err)
{
    const struct row *row = find((int)err);

    return row != NULL && row->retryable;
}

enum err err_set(struct err_info *info, enum err err, const char *format, ...)
{
    va_list args;

    if (info != NULL) {
        info->code = err;
        va_start(args, format);
        (void)vsnprintf(info->text, sizeof info->text, format, args); /* Cut text is still text. */
        va_end(args);
    }
    return err;
}

enum err err_prefix(struct err_info *info, enum err err, const char *format, ...)
{
    char context[sizeof info->text];
    va_list args;
    size_t size;
    int rv;

    if (info == NULL) {
        return err;
    }
    va_start(args, format);
    rv = vsnprintf(context, sizeof context - 2, format, args);
    va_end(args);
    ASSERT(rv >= 0); /* Only a wrong format string fails. */
    size = strlen(context);
    memcpy(context + size, ": ", 2);
    size += 2;
    if (info->code != err && (info->code == ERR_OK || err == ERR_NOMEM)) {
        (void)err_set(info, err, "%s", err_text(err)); /* Nobody has said so. */
    }
    info->code = err;
    /* The old text moves up; what does not fit is cut. */
    memmove(info->text + size, info->text, sizeof info->text - size);
    memcpy(info->text, context, size);
    info->text[sizeof info->text - 1] = '\0';
    return err;
}

enum err err_from_errno(int number)
{
    switch (number) {
    case 0:
        return ERR_OK;
    case ENOMEM:
        return ERR_NOMEM;
    case ENOSPC:
    case EDQUOT:
        return ERR_NOSPACE;
    case EMFILE:
    case ENFILE:
        return ERR_LIMIT;
    case ENOENT:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case EAGAIN:
        return ERR_AGAIN;
    case EINVAL:
        return ERR_INVALID;
    default:
        return ERR_IO;
    }
}

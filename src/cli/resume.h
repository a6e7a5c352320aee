/*
 * The file that lets `quorlog produce --resume FILE` go on where an earlier run stopped, each line
 * written once, whatever ended that run.
 *
 *      {"version": 1, "topic": "events", "producer": 7, "records": 120, "lines": 120,
 *       "position": 5310, "clean": false}
 *
 *      producer   the id under which the lines are written
 *      records    written under it and acknowledged, when …
 *      lines      … so many lines of the input, and …
 *      position   … so many bytes of it were used up
 *      clean      true: the run ended well, nothing can be under way any more
 *
 * How many records the id has written at all is asked of the cluster, when its epoch is raised:
 * what an earlier run had under way is then decided for good. So the file need not be written with
 * every answer; what it lacks is skipped in the input. FILE.lock keeps a second run away. Replaced
 * as a whole (base/io.h), so it is there or not, never half.
 */
#ifndef QUORLOG_CLI_RESUME_H
#define QUORLOG_CLI_RESUME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"
#include "client/client.h"

struct resume {
    char dir[IO_PATH_SIZE];
    char name[IO_PATH_SIZE];
    int lock_fd;
    bool found; /* an earlier run left it */
    uint64_t producer_id;
    uint64_t records;
    uint64_t lines;
    uint64_t position;
    bool clean;
};

/* Locks and reads the file for this topic; it need not be there. Says what is wrong, and returns
 * the exit code. resume_close in any case. */
int resume_open(struct resume *self, const char *path, const char *topic);
void resume_close(struct resume *self);

/* Makes the file durable as it is in memory. Says what is wrong, and returns the exit code. */
int resume_save(const struct resume *self, const char *topic);

/*
 * Takes the producer over, or gets a new one where there is none yet (or where the old one is of no
 * more use after a run that ended well), and saves the file. *ret_identity: what to produce with;
 * *ret_skip: lines behind lines/position that are written already.
 */
int resume_claim(struct resume *self, struct client *client, const char *topic,
                 struct producer_identity *ret_identity, uint64_t *ret_skip);

#endif

/*
 * Files of indexes of times and keys (lookup/part.h) in a node's directory, made by what makes them
 * in a node: of a topic's first segments, as if they were those of its records.
 */
#ifndef QUORLOG_TESTS_ARCHIVE_INDEX_FILES_H
#define QUORLOG_TESTS_ARCHIVE_INDEX_FILES_H

#include "archive/node_dir.h"
#include "lookup/part.h"

#define INDEX_FILES_DIR NODE_DIR "/indexes"

enum { INDEX_FILES_ENTRIES = 10 };

/* A file's seal for offsets from the beginning of the topic's segment `first` to the end of
 * segment `last` (0, 1 …), with the digest there. topic_dir: as node_dir's a, b, c. */
struct part_seal index_files_seal(struct node_dir *dir, const char *topic_dir, enum part_kind kind,
                                  unsigned first, unsigned last);

/* Writes such a file; makes the directories. ret_path: where. */
void index_files_add(struct node_dir *dir, const char *topic_dir, struct part_seal *seal,
                     char ret_path[IO_PATH_SIZE]);

/* Writes a file of keys into a directory of the real file system. */
void index_files_write_keys(const char *real_dir, struct part_seal *seal);

/* Makes the checksum of a file's seal right again, after `change` of its fields. */
void index_files_reseal(struct node_dir *dir, const char *path,
                        void (*change)(struct part_seal *seal));

#endif

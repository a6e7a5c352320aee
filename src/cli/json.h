/*
 * JSON on stdout, and rows for people: the two faces of every answer.
 */
#ifndef QUORLOG_CLI_JSON_H
#define QUORLOG_CLI_JSON_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* Prints one object on one line and releases it. */
void json_print(json_t *object);

/* Bytes as a JSON string when they are UTF-8, else as {"base64": "…"}. */
json_t *json_bytes(const void *data, size_t size);

/* The same for text that another wrote: it may be no UTF-8. */
json_t *json_text(const char *text);

/* Numbers above 2^63 - 1 lose digits; none of ours is. */
json_t *json_number(uint64_t number);

/* "12.3 MiB", "980 B". Returns buffer. */
const char *human_size(char buffer[24], uint64_t size);

/* "2026-11-22T10:00:00.123456Z". Returns buffer. */
const char *human_time(char buffer[40], int64_t time_us);

#endif

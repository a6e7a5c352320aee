#include "cli/json.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"

void json_print(json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(9));

    ASSERT(text != NULL); /* Objects are ours: no cycles, no broken strings. */
    printf("%s\n", text);
    free(text);
    json_decref(object);
}

json_t *json_number(uint64_t number)
{
    return number <= INT64_MAX ? json_integer((json_int_t)number) : json_real((double)number);
}

json_t *json_text(const char *text)
{
    return json_bytes(text, strlen(text));
}

json_t *json_bytes(const void *data, size_t size)
{
    json_t *text = json_stringn(size > 0 ? data : "", size); /* NULL when it is not UTF-8 */
    unsigned char *encoded;

    if (text != NULL) {
        return text;
    }
    encoded = malloc(size / 3 * 4 + 8);
    ASSERT(encoded != NULL);
    (void)EVP_EncodeBlock(encoded, data, (int)size); /* Its length is that of the text. */
    text = json_pack("{s:s}", "base64", (const char *)encoded);
    free(encoded);
    return text;
}

const char *human_size(char buffer[24], uint64_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)size;
    size_t unit = 0;

    while (value >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(buffer, 24, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]); /* fits */
    return buffer;
}

const char *human_time(char buffer[40], int64_t time_us)
{
    /* Rounded down, also before 1970: a producer's time may be anything. */
    int64_t part_us = (time_us % 1000000 + 1000000) % 1000000;
    time_t time_s = (time_t)(time_us / 1000000 - (time_us % 1000000 < 0 ? 1 : 0));
    struct tm utc;
    size_t size;

    (void)gmtime_r(&time_s, &utc); /* Fails only beyond the year 2^31. */
    size = strftime(buffer, 40, "%Y-%m-%dT%H:%M:%S", &utc);
    (void)snprintf(buffer + size, 40 - size, ".%06dZ", (int)part_us); /* fits */
    return buffer;
}

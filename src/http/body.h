/* JSON bodies of requests, checked, and JSON texts of answers. No I/O; any thread. */
#ifndef TIERKV_HTTP_BODY_H
#define TIERKV_HTTP_BODY_H

#include "raft/replica.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BODY_NUMBER_BYTES 20 /* Digits of UINT64_MAX */

/* Why a body was refused: an HTTP status, a stable code and a sentence. */
struct body_error {
    int status;
    const char *code;
    char message[256];
};

/* A POST /key body: an object whose members are the keys to set and their values, all strings. */
struct body_puts {
    struct replica_put *puts; /* Pointing into `object` */
    size_t n;
    json_t *object;
};
bool body_puts_parse(const char *bytes, size_t n, size_t value_bytes_max,
                     struct body_puts *ret_puts, struct body_error *ret_error);
void body_puts_free(struct body_puts *puts);

/* A POST /join body. */
bool body_join_parse(const char *bytes, size_t n, struct replica_join *ret_join,
                     struct body_error *ret_error);

/* A POST /transfer body: nothing, or an object whose "id" names the new leader. The name becomes
 * empty if none is given. */
bool body_transfer_parse(const char *bytes, size_t n, char ret_name[static 65],
                         struct body_error *ret_error);

/* Whether the bytes are well-formed UTF-8, and so can stand in a JSON string. */
bool body_is_utf8(const char *bytes, size_t n);
/* The length of the longest beginning that is. */
size_t body_utf8_prefix(const char *bytes, size_t n);
/* The bytes of a JSON string with its quotes; the input must be UTF-8. */
size_t body_string_size(const char *bytes, size_t n);
/* Writes exactly that many; returns the end. */
char *body_string_write(char *out, const char *bytes, size_t n);
/* Decimal digits, at most BODY_NUMBER_BYTES; returns the end. */
char *body_number_write(char *out, uint64_t number);

#endif

/* See preamble.h. */
#include "raft/preamble.h"

#include <endian.h>
#include <string.h>

#define MAGIC   0x50564b54u /* "TKVP" */
#define VERSION 1

static unsigned char *put(unsigned char *at, uint64_t value, size_t bytes)
{
    value = htole64(value);
    memcpy(at, &value, bytes);
    return at + bytes;
}

static uint64_t get(const unsigned char **at, size_t bytes)
{
    uint64_t value = 0;

    memcpy(&value, *at, bytes);
    *at += bytes;
    return le64toh(value);
}

void preamble_encode(const struct preamble *preamble, unsigned char ret_bytes[PREAMBLE_BYTES])
{
    unsigned char *at = ret_bytes;
    size_t length = strnlen(preamble->address, PREAMBLE_ADDRESS_BYTES - 1);

    memset(ret_bytes, 0, PREAMBLE_BYTES);
    at = put(at, MAGIC, 4);
    at = put(at, VERSION, 2);
    at = put(at, (uint64_t)preamble->kind, 2);
    at = put(at, preamble->cluster_id, 8);
    at = put(at, preamble->source, 8);
    at = put(at, preamble->destination, 8);
    at = put(at, preamble->incarnation, 8);
    at = put(at, length, 2) + 6;
    memcpy(at, preamble->address, length);
}

bool preamble_decode(const unsigned char bytes[PREAMBLE_BYTES], struct preamble *ret_preamble)
{
    const unsigned char *at = bytes;
    struct preamble preamble = {0};
    uint64_t magic = get(&at, 4), version = get(&at, 2), kind = get(&at, 2), length;

    preamble.cluster_id = get(&at, 8);
    preamble.source = get(&at, 8);
    preamble.destination = get(&at, 8);
    preamble.incarnation = get(&at, 8);
    length = get(&at, 2);
    at += 6;
    if (magic != MAGIC || version != VERSION || (kind != PREAMBLE_RAFT && kind != PREAMBLE_STATE) ||
        preamble.source == 0 || length == 0 || length >= PREAMBLE_ADDRESS_BYTES ||
        memchr(at, 0, length) != NULL)
        return false;
    preamble.kind = (enum preamble_kind)kind;
    memcpy(preamble.address, at, length);
    *ret_preamble = preamble;
    return true;
}

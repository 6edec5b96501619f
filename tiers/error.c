/* The messages of the error codes, from the one table in tiers.h. Any thread. */
#include "tiers/tiers.h"

const char *tiers_strerror(int error)
{
    switch (error) {
    case 0:
        return "success";
#define X(name, code, message)                                                                     \
    case name:                                                                                     \
        return message;
        TIERS_ERRORS(X)
#undef X
    default:
        return "unknown error";
    }
}

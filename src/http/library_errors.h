/* Errors that libh2o answers by itself, in our shape. */
#ifndef TIERKV_HTTP_LIBRARY_ERRORS_H
#define TIERKV_HTTP_LIBRARY_ERRORS_H

#define H2O_USE_LIBUV 0
#include <h2o.h>

/* `path` is the host's fallback path, which libh2o uses for requests that no handler has seen. */
void library_errors_as_json(h2o_pathconf_t *path);

#endif

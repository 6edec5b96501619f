/* The YAML file: a mapping from names of settings to texts. Used by config.c only. */
#ifndef TIERKV_CONFIG_FILE_H
#define TIERKV_CONFIG_FILE_H

#include "config.h"

struct config_file; /* The loaded file */

/* Reads `path`. 0, or -1 with one line in error_text. */
int config_file_load(const char *path, struct config_file **ret_file, char *error_text,
                     size_t error_text_size);
/* NULL: the file does not have it, or as an unquoted null or nothing at all. Valid until the file
 * is closed. */
const char *config_file_text(const struct config_file *file, enum config_setting setting);
void config_file_close(struct config_file *file);

/* The name in `names` (of `n`) that `name` was probably meant to be, or NULL. */
const char *config_nearest(const char *name, const char *const *names, size_t n);

#endif

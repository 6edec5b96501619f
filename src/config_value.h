/* One setting: its row of the table, and its value as text. Used by the config_*.c files only. */
#ifndef TIERKV_CONFIG_VALUE_H
#define TIERKV_CONFIG_VALUE_H

#include "config.h"

enum config_type {
    CONFIG_TYPE_text,
    CONFIG_TYPE_u64,
    CONFIG_TYPE_bytes,
    CONFIG_TYPE_ms,
    CONFIG_TYPE_flag,
    CONFIG_TYPE_choice
};

struct config_row {
    enum config_type type;
    const char *name;
    size_t offset; /* In struct config */
    const char *default_text;
    uint64_t least, most;
    const char *help;
};

extern const struct config_row config_rows[CONFIG_SETTINGS_N];

#define CONFIG_VALUE_TEXT_BYTES 32

/* Reads a text into the setting's field. False: the text is not allowed, or memory is short
 * (errno is ENOMEM then, else 0). An earlier value is freed. */
bool config_value_set(struct config *config, const struct config_row *row, const char *text);
void config_value_free(struct config *config, const struct config_row *row);

#define CONFIG_FIGURES_N 3

/* Three decimal numbers of 0 or more, separated by commas. False: the text is something else. */
bool config_figures_parse(const char *text, double ret_figures[static CONFIG_FIGURES_N]);

/* The field as YAML that config_value_set would read back. */
void config_value_print(const struct config *config, const struct config_row *row, FILE *out);

/* What is allowed, as the end of the sentence "… must be …". */
void config_value_allowed(const struct config_row *row, char *ret_text, size_t text_size);

#endif

/* A folder of a test's own, below $TMPDIR or /tmp. */
#ifndef TIERKV_TESTS_TEMP_FOLDER_H
#define TIERKV_TESTS_TEMP_FOLDER_H

#include <stddef.h>

#define TEMP_FOLDER_PATH_BYTES 512

/* Creates a new empty folder; exits the program if it cannot. */
void temp_folder_make(char ret_path[TEMP_FOLDER_PATH_BYTES]);

/* Deletes the folder and all below it. */
void temp_folder_remove(const char *path);

#endif

/* Copies of folders, for tests that start from the same state again and again. */
#ifndef TIERKV_TESTS_FOLDER_COPY_H
#define TIERKV_TESTS_FOLDER_COPY_H

/* Makes `to`, which must not be there, with all files and folders below `from`; holes stay holes.
 * Ends the program if it cannot. */
void folder_copy(const char *from, const char *to);

#endif

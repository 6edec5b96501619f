/* See process_usage.h: /proc/self/status and /proc/self/io, which needs a kernel with task I/O
 * accounting. Its write_bytes would tell what reached the page cache of disks, but counts a whole
 * large folio for each of its pages that is written, several times too much; wchar counts what was
 * asked for. Any thread. */
#include "process_usage.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES 8192 /* More than either file has */

uint64_t process_usage_field(const char *text, const char *name)
{
    size_t length = strlen(name);

    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, length) == 0 && line[length] == ':')
            return strtoull(line + length + 1, NULL, 10);
    }
    return 0;
}

static bool read_text(const char *path, char text[TEXT_BYTES])
{
    FILE *file = fopen(path, "re");
    size_t n = 0;

    if (file != NULL) {
        n = fread(text, 1, TEXT_BYTES - 1, file);
        fclose(file);
    }
    text[n] = '\0';
    return n > 0;
}

void process_usage(struct process_usage *ret_usage)
{
    char text[TEXT_BYTES];

    *ret_usage = (struct process_usage){0};
    if (read_text("/proc/self/status", text)) {
        ret_usage->anonymous_bytes = process_usage_field(text, "RssAnon") * 1024;
        ret_usage->mapped_bytes = process_usage_field(text, "RssFile") * 1024;
    }
    ret_usage->io_known = read_text("/proc/self/io", text);
    if (ret_usage->io_known)
        ret_usage->written_bytes = process_usage_field(text, "wchar");
}

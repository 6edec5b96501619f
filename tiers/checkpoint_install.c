/* Installing a stream of checkpoint.c into new directories. The caller's thread; blocks.
 *
 * Everything is written as it comes and synced at the end: rows into a new index (warm_copy.c),
 * segments into files. Whatever goes wrong, the directories are then of no use, and the caller, who
 * has not yet made them the live ones, removes them. */
#include "checkpoint_frame.h"
#include "cold_header.h"
#include "file.h"
#include "heat_file.h"
#include "little_endian.h"
#include "warm_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define SEGMENT_PREFIX_BYTES 16
/* Of a segment: after so many the disk is given something to do. */
#define WRITE_BACK_BYTES (4u << 20)

struct install {
    struct checkpoint_reader reader;
    struct warm_fill *fill;
    struct tiers_position position;
    uint64_t rows;
    int cold_fd;          /* The directory */
    uint64_t segment;     /* Being written; 0: none yet */
    int segment_fd;       /* -1: none */
    uint64_t segment_end; /* Bytes of it so far */
    int warm_fd;          /* The directory */
    int heat_fd;          /* -1: none */
    uint64_t heat_end;    /* Words so far */
    XXH3_state_t *heat_hash;
    char *error_text;
    size_t error_text_size;
};

__attribute__((format(printf, 3, 4))) static int fail(const struct install *install, int error,
                                                      const char *format, ...)
{
    va_list arguments;
    if (install->error_text != NULL && install->error_text_size > 0) {
        va_start(arguments, format);
        vsnprintf(install->error_text, install->error_text_size, format, arguments);
        va_end(arguments);
    }
    return error;
}

static int errno_status(int error)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return TIERS_NO_SPACE;
    case EACCES:
    case EPERM:
    case EROFS:
        return TIERS_ACCESS;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
        return TIERS_NO_MEMORY;
    default:
        return TIERS_IO;
    }
}

static int begin_read(struct install *install)
{
    const struct checkpoint_reader *reader = &install->reader;
    int error = checkpoint_frame_read(&install->reader);
    if (error) {
        return fail(install, error, "the stream does not begin as one: %s", tiers_strerror(error));
    }
    const unsigned char *in = reader->payload;
    if (reader->type != CHECKPOINT_FRAME_BEGIN || reader->n != CHECKPOINT_BEGIN_BYTES ||
        memcmp(in, CHECKPOINT_MAGIC, 8) != 0) {
        return fail(install, TIERS_CORRUPT, "the stream holds no state");
    }
    if (little_endian_get(in + 8, 8) != CHECKPOINT_VERSION) {
        return fail(install, TIERS_VERSION, "the stream has version %llu, which is not known",
                    (unsigned long long)little_endian_get(in + 8, 8));
    }
    install->position = (struct tiers_position){.index = little_endian_get(in + 16, 8),
                                                .revision = little_endian_get(in + 24, 8),
                                                .state_hash = little_endian_get(in + 32, 8)};
    return 0;
}

static int rows_read(struct install *install)
{
    const unsigned char *at = install->reader.payload;
    const unsigned char *end = at + install->reader.n;
    if (install->reader.n < CHECKPOINT_ROWS_PREFIX_BYTES ||
        little_endian_get(at, CHECKPOINT_ROWS_PREFIX_BYTES) >= WARM_COPY_TABLES) {
        return fail(install, TIERS_CORRUPT, "the stream has rows of an unknown table");
    }
    enum warm_copy_table table =
        (enum warm_copy_table)little_endian_get(at, CHECKPOINT_ROWS_PREFIX_BYTES);
    at += CHECKPOINT_ROWS_PREFIX_BYTES;
    while (at < end) {
        size_t left = (size_t)(end - at);
        size_t key_len = left >= CHECKPOINT_ROW_BYTES ? little_endian_get(at, 4) : left;
        size_t row_len = left >= CHECKPOINT_ROW_BYTES ? little_endian_get(at + 4, 4) : left;
        if (CHECKPOINT_ROW_BYTES + key_len + row_len > left) {
            return fail(install, TIERS_CORRUPT, "a row of the stream is cut off");
        }
        const unsigned char *key = at + CHECKPOINT_ROW_BYTES;
        int error = warm_fill_row(install->fill, table, key, key_len, key + key_len, row_len);
        if (error) {
            return fail(install, error, "a row cannot be stored: %s", tiers_strerror(error));
        }
        install->rows++;
        at = key + key_len + row_len;
    }
    return 0;
}

/* The file that was being written is complete. */
static int segment_end(struct install *install)
{
    if (install->segment_fd < 0) {
        return 0;
    }
    int cause = file_sync(install->segment_fd) == 0 ? 0 : errno;
    close(install->segment_fd);
    install->segment_fd = -1;
    return cause == 0 ? 0
                      : fail(install, errno_status(cause), "cold segment %016llx: %s",
                             (unsigned long long)install->segment, strerror(cause));
}

static int segment_begin(struct install *install, uint64_t id)
{
    char name[COLD_NAME_BYTES];
    int error = segment_end(install);
    if (error) {
        return error;
    }
    if (id <= install->segment) {
        return fail(install, TIERS_CORRUPT, "the stream's segments are out of order");
    }
    cold_name_print(id, name);
    install->segment_fd = file_open(install->cold_fd, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (install->segment_fd < 0) {
        int cause = errno;
        return fail(install, errno_status(cause), "cannot create the cold segment %s: %s", name,
                    strerror(cause));
    }
    install->segment = id;
    install->segment_end = 0;
    return 0;
}

static int segment_read(struct install *install)
{
    const unsigned char *in = install->reader.payload;
    if (install->reader.n < SEGMENT_PREFIX_BYTES) {
        return fail(install, TIERS_CORRUPT, "a piece of a segment is cut off");
    }
    uint64_t id = little_endian_get(in, 8);
    if (install->segment_fd < 0 || id != install->segment) {
        int error = segment_begin(install, id);
        if (error) {
            return error;
        }
    }
    size_t n = install->reader.n - SEGMENT_PREFIX_BYTES;
    if (little_endian_get(in + 8, 8) != install->segment_end) {
        return fail(install, TIERS_CORRUPT, "the stream's segments are out of order");
    }
    if (file_write(install->segment_fd, in + SEGMENT_PREFIX_BYTES, n, install->segment_end) != 0) {
        int cause = errno;
        return fail(install, errno_status(cause), "cold segment %016llx: %s",
                    (unsigned long long)id, strerror(cause));
    }
    if (install->segment_end / WRITE_BACK_BYTES != (install->segment_end + n) / WRITE_BACK_BYTES) {
        file_write_back(install->segment_fd);
    }
    install->segment_end += n;
    return 0;
}

static int heat_put(struct install *install, const void *bytes, size_t n, uint64_t offset)
{
    if (file_write(install->heat_fd, bytes, n, offset) != 0 ||
        XXH3_64bits_update(install->heat_hash, bytes, n) != XXH_OK) {
        int cause = errno;
        return fail(install, errno_status(cause), "the heat: %s", strerror(cause));
    }
    return 0;
}

static int heat_begin(struct install *install, uint64_t words)
{
    unsigned char header[HEAT_FILE_HEADER_BYTES] = HEAT_FILE_MAGIC;
    install->heat_fd =
        file_open(install->warm_fd, HEAT_FILE_NAME, O_WRONLY | O_CREAT | O_EXCL, 0600);
    install->heat_hash = XXH3_createState();
    if (install->heat_fd < 0 || install->heat_hash == NULL ||
        XXH3_64bits_reset(install->heat_hash) != XXH_OK) {
        int cause = install->heat_fd < 0 ? errno : ENOMEM;
        return fail(install, errno_status(cause), "the heat: %s", strerror(cause));
    }
    little_endian_put(header + 8, words, 8);
    return heat_put(install, header, sizeof header, 0);
}

/* As the words come; the sum behind the last of them. */
static int heat_read(struct install *install)
{
    const unsigned char *in = install->reader.payload;
    size_t n = install->reader.n;
    if (n < 16 || (n - 16) % 8 != 0 || little_endian_get(in + 8, 8) != install->heat_end) {
        return fail(install, TIERS_CORRUPT, "the stream's heat is out of order");
    }
    uint64_t total = little_endian_get(in, 8);
    int error = install->heat_fd < 0 ? heat_begin(install, total) : 0;
    if (error == 0) {
        error = heat_put(install, in + 16, n - 16, HEAT_FILE_HEADER_BYTES + install->heat_end * 8);
    }
    install->heat_end += (n - 16) / 8;
    if (error == 0 && install->heat_end == total) {
        unsigned char sum[8];
        little_endian_put(sum, XXH3_64bits_digest(install->heat_hash), 8);
        error = heat_put(install, sum, sizeof sum, HEAT_FILE_HEADER_BYTES + total * 8);
    }
    return error;
}

static int end_read(struct install *install)
{
    if (install->reader.n != 8 || little_endian_get(install->reader.payload, 8) != install->rows) {
        return fail(install, TIERS_CORRUPT, "the stream ends before its state does");
    }
    int error = segment_end(install);
    if (error) {
        return error;
    }
    if (file_sync(install->cold_fd) != 0) {
        int cause = errno;
        return fail(install, errno_status(cause), "the cold directory: %s", strerror(cause));
    }
    error = warm_fill_end(install->fill, &install->position);
    if (error == TIERS_CORRUPT) {
        return fail(install, error, "the state is not the one that the stream announced");
    }
    return error ? fail(install, error, "the index: %s", tiers_strerror(error)) : 0;
}

static int frames_read(struct install *install)
{
    for (;;) {
        int error = checkpoint_frame_read(&install->reader);
        if (error) {
            return fail(install, error, "the stream broke off or is damaged: %s",
                        tiers_strerror(error));
        }
        switch (install->reader.type) {
        case CHECKPOINT_FRAME_ROWS:
            error = rows_read(install);
            break;
        case CHECKPOINT_FRAME_SEGMENT:
            error = segment_read(install);
            break;
        case CHECKPOINT_FRAME_HEAT:
            error = heat_read(install);
            break;
        case CHECKPOINT_FRAME_END:
            return end_read(install);
        default:
            return fail(install, TIERS_CORRUPT, "the stream has a frame of an unknown type");
        }
        if (error) {
            return error;
        }
    }
}

/* Makes the directory unless it is there, and syncs its name. */
static int directory_make(const struct install *install, const char *path)
{
    if ((file_folder_make(path, 0700) != 0 && errno != EEXIST) || file_parent_sync(path) != 0) {
        int cause = errno;
        return fail(install, errno_status(cause), "cannot create the directory %s: %s", path,
                    strerror(cause));
    }
    return 0;
}

static int directories_open(struct install *install, const char *warm_dir, const char *cold_dir)
{
    int error = directory_make(install, warm_dir);
    if (error == 0) {
        error = directory_make(install, cold_dir);
    }
    if (error) {
        return error;
    }
    install->cold_fd = file_open(AT_FDCWD, cold_dir, O_RDONLY | O_DIRECTORY, 0);
    if (install->cold_fd < 0) {
        int cause = errno;
        return fail(install, errno_status(cause), "cannot open %s: %s", cold_dir, strerror(cause));
    }
    install->warm_fd = file_open(AT_FDCWD, warm_dir, O_RDONLY | O_DIRECTORY, 0);
    if (install->warm_fd < 0) {
        int cause = errno;
        return fail(install, errno_status(cause), "cannot open %s: %s", warm_dir, strerror(cause));
    }
    return warm_fill_open(warm_dir, &install->fill, install->error_text, install->error_text_size);
}

int tiers_checkpoint_install(const char *warm_dir, const char *cold_dir,
                             tiers_checkpoint_source source, void *context,
                             struct tiers_position *ret_position, char *error_text,
                             size_t error_text_size)
{
    struct install install = {.reader = {.source = source, .context = context},
                              .cold_fd = -1,
                              .segment_fd = -1,
                              .warm_fd = -1,
                              .heat_fd = -1,
                              .error_text = error_text,
                              .error_text_size = error_text_size};
    (void)fail(&install, TIERS_NO_MEMORY, "out of memory");
    int error = directories_open(&install, warm_dir, cold_dir);
    if (error == 0) {
        error = begin_read(&install);
    }
    if (error == 0) {
        error = frames_read(&install);
    }
    if (install.fill != NULL) {
        warm_fill_close(install.fill);
    }
    if (install.segment_fd >= 0) {
        close(install.segment_fd);
    }
    if (install.cold_fd >= 0) {
        close(install.cold_fd);
    }
    if (install.warm_fd >= 0) {
        close(install.warm_fd);
    }
    if (install.heat_fd >= 0) {
        close(install.heat_fd);
    }
    XXH3_freeState(install.heat_hash);
    checkpoint_reader_free(&install.reader);
    if (error == 0) {
        *ret_position = install.position;
    }
    return error;
}

/* Opens and closes the LMDB environment of the warm tier, and tells its figures.
 *
 * The happy path: lock the directory, open the environment, open or create the databases, check the
 * format, load position and figures.
 *
 * Failures: everything LMDB says goes through warm_error. A file that was cut short would fault
 * when its map is read, so that opening pads it to the length that it claims: the zero pages then
 * read as damaged ones. One thread opens and closes; the figures are for any. */
#include "file.h"
#include "little_endian.h"
#include "warm_layout.h"
#include "warm_private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT_MAGIC     "TKVWARM"
#define FORMAT_ROW_BYTES 16
/* 2: rows and the headers of items have checks. */
#define FORMAT_VERSION        2
#define FORMAT_VERSION_OLDEST 1

/* Address space may be limited (containers, sanitizers): what to try when the default fails. */
#define MAP_BYTES_FALLBACK (64ull << 30)
/* A larger file would make a start slow: of it only the meta pages are checked. */
#define CHECK_BYTES_MAX_DEFAULT (256ull << 20)
#define READERS_MAX             1024
/* Room for that many slots of LMDB's reader table, one cache line each, and its header. */
#define READER_TABLE_BYTES (READERS_MAX * 64 + 4096)

int warm_error(int lmdb_error)
{
    switch (lmdb_error) {
    case 0:
        return 0;
    case MDB_NOTFOUND:
        return TIERS_NOT_FOUND;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return TIERS_NO_SPACE;
    case ENOMEM:
    case MDB_TXN_FULL:
        return TIERS_NO_MEMORY;
    case MDB_READERS_FULL:
        return TIERS_BUSY;
    case MDB_VERSION_MISMATCH:
        return TIERS_VERSION;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_INCOMPATIBLE:
    case MDB_CURSOR_FULL:
    case MDB_PAGE_FULL:
        return TIERS_CORRUPT;
    case EACCES:
    case EPERM:
    case EROFS:
        return TIERS_ACCESS;
    case MDB_BAD_VALSIZE:
    case EINVAL:
        return TIERS_INVALID;
    default:
        return TIERS_IO;
    }
}

int warm_usage_measure(struct warm *warm, MDB_txn *txn, struct warm_usage *usage)
{
    const MDB_dbi databases[] = {warm->main, warm->spaces[0], warm->spaces[1], warm->segments,
                                 warm->meta};
    uint64_t pages = 0;
    uint64_t index_pages = 0;
    uint64_t keys = 0;
    for (size_t i = 0; i < sizeof databases / sizeof databases[0]; i++) {
        MDB_stat stat;
        int error = warm_error(mdb_stat(txn, databases[i], &stat));
        if (error) {
            return error;
        }
        pages += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
        if (databases[i] == warm->spaces[0] || databases[i] == warm->spaces[1]) {
            keys += stat.ms_entries;
            index_pages += stat.ms_branch_pages + stat.ms_leaf_pages;
        }
        if (databases[i] == warm->spaces[TIERS_SPACE_USER]) {
            usage->user_leaf_bytes = stat.ms_leaf_pages * warm->page_bytes;
        }
    }
    usage->used_bytes = pages * warm->page_bytes;
    usage->keys = keys;
    usage->map_bytes = warm->map_bytes;
    usage->write_keys_max = warm_extent_keys_max(index_pages, keys);
    return 0;
}

/* ---- Opening ---- */

__attribute__((format(printf, 3, 4))) static void describe(char *text, size_t size,
                                                           const char *format, ...)
{
    if (text != NULL && size > 0) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, size, format, arguments);
        va_end(arguments);
    }
}

static int named_open(const char *directory, const char *name, char *error_text,
                      size_t error_text_size, int *ret_fd)
{
    char path[WARM_PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path) {
        describe(error_text, error_text_size, "the path of %s is too long", directory);
        return TIERS_INVALID;
    }
    int fd = file_open(AT_FDCWD, path, O_RDWR | O_CREAT, WARM_FILE_MODE);
    if (fd < 0) {
        int cause = errno;
        describe(error_text, error_text_size, "cannot open %s: %s", path, strerror(cause));
        return warm_error(cause);
    }
    *ret_fd = fd;
    return 0;
}

/* Holds the directory against other processes until the descriptor is closed. */
static int directory_lock(struct warm *warm, const char *directory, char *error_text,
                          size_t error_text_size)
{
    int error = named_open(directory, "LOCK", error_text, error_text_size, &warm->lock_fd);
    if (error) {
        return error;
    }
    if (flock(warm->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        int cause = errno;
        if (cause == EWOULDBLOCK) {
            describe(error_text, error_text_size, "another process uses %s", directory);
            return TIERS_LOCKED;
        }
        describe(error_text, error_text_size, "cannot lock %s/LOCK: %s", directory,
                 strerror(cause));
        return warm_error(cause);
    }
    return 0;
}

/* LMDB maps its reader table from a sparse file; on a full disk touching it would fault. */
static int reader_table_allocate(const char *directory, char *error_text, size_t error_text_size)
{
    int fd = -1;
    int error = named_open(directory, "lock.mdb", error_text, error_text_size, &fd);
    if (error) {
        return error;
    }
    int cause = file_reserve(fd, 0, READER_TABLE_BYTES) == 0 ? 0 : errno;
    close(fd);
    if (cause != 0 && cause != EOPNOTSUPP && cause != EINVAL) {
        describe(error_text, error_text_size, "cannot allocate %s/lock.mdb: %s", directory,
                 strerror(cause));
        return warm_error(cause);
    }
    return 0;
}

static int environment_create(struct warm *warm, const char *directory, uint64_t map_bytes)
{
    MDB_env *env = NULL;
    int rc = mdb_env_create(&env);
    if (rc != 0) {
        return rc;
    }
    if ((rc = mdb_env_set_mapsize(env, map_bytes)) != 0 ||
        (rc = mdb_env_set_maxreaders(env, READERS_MAX)) != 0 ||
        (rc = mdb_env_set_maxdbs(env, 8)) != 0 ||
        (rc = mdb_env_open(env, directory, MDB_NOTLS | MDB_NORDAHEAD, WARM_FILE_MODE)) != 0) {
        mdb_env_close(env);
        return rc;
    }
    warm->env = env;
    warm->map_bytes = map_bytes;
    return 0;
}

/* A page beyond the end of the file would fault when read; zeros are merely damaged. A healthy file
 * may lack some pages at its end: those that one transaction took and gave back. */
static int file_pad(struct warm *warm, const char *directory, char *error_text,
                    size_t error_text_size)
{
    MDB_envinfo info;
    MDB_stat stat;
    mdb_filehandle_t fd;
    struct stat file;
    int rc = mdb_env_info(warm->env, &info);
    if (rc != 0 || (rc = mdb_env_stat(warm->env, &stat)) != 0 ||
        (rc = mdb_env_get_fd(warm->env, &fd)) != 0) {
        return warm_error(rc);
    }
    warm->page_bytes = stat.ms_psize;
    off_t bytes = (off_t)(((uint64_t)info.me_last_pgno + 1) * stat.ms_psize);
    if (fstat(fd, &file) != 0 ||
        (file.st_size < bytes && file_truncate(fd, (uint64_t)bytes) != 0)) {
        int cause = errno;
        describe(error_text, error_text_size, "cannot extend %s/data.mdb: %s", directory,
                 strerror(cause));
        return warm_error(cause);
    }
    return 0;
}

/* LMDB does not survive a crash in the first write to its file: the file of a new environment gets
 * its name when it is complete. Returns what LMDB does. */
static int environment_make(const char *directory)
{
    char path[WARM_PATH_BYTES];
    char new_path[WARM_PATH_BYTES];
    MDB_env *env = NULL;
    if (snprintf(path, sizeof path, "%s/data.mdb", directory) >= (int)sizeof path ||
        snprintf(new_path, sizeof new_path, "%s/new.mdb", directory) >= (int)sizeof new_path) {
        return ENAMETOOLONG;
    }
    if (access(path, F_OK) == 0) {
        return 0;
    }
    if (file_unlink(AT_FDCWD, new_path) != 0 && errno != ENOENT) {
        return errno;
    }
    int rc = mdb_env_create(&env);
    if (rc != 0) {
        return rc;
    }
    rc = mdb_env_open(env, new_path, MDB_NOSUBDIR | MDB_NOLOCK, WARM_FILE_MODE);
    if (rc == 0) {
        rc = mdb_env_sync(env, 1);
    }
    mdb_env_close(env);
    return rc != 0 || file_rename(new_path, path) == 0 ? rc : errno;
}

static int environment_open(struct warm *warm, const char *directory, uint64_t map_bytes,
                            char *error_text, size_t error_text_size)
{
    int rc = environment_make(directory);
    if (rc == 0 && map_bytes != 0) {
        rc = environment_create(warm, directory, map_bytes);
    } else if (rc == 0) {
        rc = environment_create(warm, directory, WARM_MAP_BYTES_DEFAULT);
        if (rc == ENOMEM) {
            rc = environment_create(warm, directory, MAP_BYTES_FALLBACK);
        }
    }
    if (rc != 0) {
        describe(error_text, error_text_size, "cannot open %s/data.mdb: %s", directory,
                 mdb_strerror(rc));
        return warm_error(rc);
    }
    int dead;
    /* Slots of a process that was killed would pin old pages for ever. */
    rc = mdb_reader_check(warm->env, &dead);
    if (rc != 0) {
        describe(error_text, error_text_size, "cannot clear the readers of %s/lock.mdb: %s",
                 directory, mdb_strerror(rc));
        return warm_error(rc);
    }
    return file_pad(warm, directory, error_text, error_text_size);
}

static int file_check(struct warm *warm, const char *directory, uint64_t bytes_max,
                      char *error_text, size_t error_text_size)
{
    char path[WARM_PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/data.mdb", directory) >= (int)sizeof path) {
        return 0; /* As environment_make will say */
    }
    warm->made = access(path, F_OK) != 0;
    return warm_check(path, bytes_max != 0 ? bytes_max : CHECK_BYTES_MAX_DEFAULT, &warm->checked,
                      error_text, error_text_size);
}

/* The trees are made together, by the first transaction of all. To make one that is missing later
 * would be to serve without what was in it. */
static int databases_open(struct warm *warm, MDB_txn *txn, bool *ret_made)
{
    const struct {
        const char *name;
        MDB_dbi *dbi;
    } trees[] = {{WARM_USER_TREE, &warm->spaces[TIERS_SPACE_USER]},
                 {WARM_SYSTEM_TREE, &warm->spaces[TIERS_SPACE_SYSTEM]},
                 {WARM_SEGMENTS_TREE, &warm->segments},
                 {WARM_META_TREE, &warm->meta}};
    MDB_stat stat;
    int rc = mdb_dbi_open(txn, NULL, 0, &warm->main);
    if (rc == 0) {
        rc = mdb_stat(txn, warm->main, &stat);
    }
    if (rc != 0) {
        return warm_error(rc);
    }
    *ret_made = stat.ms_entries == 0;
    for (size_t i = 0; i < sizeof trees / sizeof *trees && rc == 0; i++) {
        rc = mdb_dbi_open(txn, trees[i].name, *ret_made ? MDB_CREATE : 0, trees[i].dbi);
    }
    return rc == MDB_NOTFOUND ? TIERS_CORRUPT : warm_error(rc);
}

/* A new environment gets the format row, and so does one of the older format, whose rows and items
 * are still read; one of an unknown format is refused. */
static int format_check(struct warm *warm, MDB_txn *txn, bool made)
{
    unsigned char row[FORMAT_ROW_BYTES] = FORMAT_MAGIC;
    little_endian_put(row + 8, FORMAT_VERSION, 8);
    MDB_val key = warm_val(WARM_META_FORMAT, strlen(WARM_META_FORMAT));
    MDB_val found;
    int rc = mdb_get(txn, warm->meta, &key, &found);
    if (rc == MDB_NOTFOUND && made) {
        rc = 0;
    } else if (rc == MDB_NOTFOUND) {
        return TIERS_CORRUPT;
    } else if (rc == 0) {
        if (found.mv_size != sizeof row || memcmp(found.mv_data, row, 8) != 0) {
            return TIERS_CORRUPT;
        }
        uint64_t version = little_endian_get((const unsigned char *)found.mv_data + 8, 8);
        if (version == FORMAT_VERSION) {
            return 0;
        }
        if (version < FORMAT_VERSION_OLDEST || version > FORMAT_VERSION) {
            return TIERS_VERSION;
        }
    }
    MDB_val value = warm_val(row, sizeof row);
    return warm_error(rc != 0 ? rc : mdb_put(txn, warm->meta, &key, &value, 0));
}

/* A row that is missing was never put; then what is put with it is missing, too. */
static int row_missing(MDB_txn *txn, const MDB_dbi *trees, size_t n)
{
    size_t entries = 0;
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        MDB_stat stat = {0};
        rc = mdb_stat(txn, trees[i], &stat);
        entries += stat.ms_entries;
    }
    return rc == 0 && entries > 0 ? TIERS_CORRUPT : warm_error(rc);
}

static int meta_load(struct warm *warm, MDB_txn *txn)
{
    int error = 0;
    MDB_val key = warm_val(WARM_META_POSITION, strlen(WARM_META_POSITION));
    MDB_val found;
    int rc = mdb_get(txn, warm->meta, &key, &found);
    if (rc == 0) {
        if (warm_position_decode(&found, &warm->position) != 0) {
            return TIERS_CORRUPT;
        }
    } else if (rc != MDB_NOTFOUND) {
        return warm_error(rc);
    } else if ((error = row_missing(txn, warm->spaces, WARM_SPACES)) != 0) {
        return error;
    }
    warm->next_segment = 1;
    key = warm_val(WARM_META_NEXT_SEGMENT, strlen(WARM_META_NEXT_SEGMENT));
    rc = mdb_get(txn, warm->meta, &key, &found);
    if (rc == 0) {
        if (warm_next_segment_decode(&found, &warm->next_segment) != 0) {
            return TIERS_CORRUPT;
        }
    } else if (rc != MDB_NOTFOUND) {
        return warm_error(rc);
    } else {
        error = row_missing(txn, &warm->segments, 1);
    }
    return error;
}

/* LMDB syncs the files that it makes, but not the names. Done at each opening: the one that made
 * them may have been cut off before it came here. */
static int names_sync(const char *directory, char *error_text, size_t error_text_size)
{
    int fd = file_open(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY, 0);
    int cause = fd == -1 || file_sync(fd) != 0 ? errno : 0;
    if (fd != -1) {
        close(fd);
    }
    if (cause != 0) {
        describe(error_text, error_text_size, "cannot sync the directory %s: %s", directory,
                 strerror(cause));
    }
    return warm_error(cause);
}

/* What the segment rows add up to. */
static int cold_usage_load(struct warm *warm, MDB_txn *txn)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val data;
    int rc = mdb_cursor_open(txn, warm->segments, &cursor);
    if (rc != 0) {
        return warm_error(rc);
    }
    int error = 0;
    while (error == 0 && (rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
        struct warm_segment_row row;
        error = warm_segment_row_decode(&key, &data, &row);
        if (error == 0) {
            warm->usage.cold_keys += row.live_records;
            warm->usage.cold_live_bytes += row.live_bytes;
        }
    }
    mdb_cursor_close(cursor);
    if (error == 0 && rc != MDB_NOTFOUND) {
        error = warm_error(rc);
    }
    return error;
}

static uint64_t file_bytes(struct warm *warm)
{
    MDB_envinfo info;
    int rc = mdb_env_info(warm->env, &info);
    assert(rc == 0); /* It fails for NULL arguments only. */
    return ((uint64_t)info.me_last_pgno + 1) * warm->page_bytes;
}

static int contents_load(struct warm *warm, const char *directory, char *error_text,
                         size_t error_text_size)
{
    MDB_txn *txn = NULL;
    bool made = false;
    int error = warm_error(mdb_txn_begin(warm->env, NULL, 0, &txn));
    if (error == 0 && (error = databases_open(warm, txn, &made)) == 0 &&
        (error = format_check(warm, txn, made)) == 0 && (error = meta_load(warm, txn)) == 0 &&
        (error = cold_usage_load(warm, txn)) == 0 &&
        (error = warm_usage_measure(warm, txn, &warm->usage)) == 0) {
        error = warm_error(mdb_txn_commit(txn));
        txn = NULL;
    }
    if (txn != NULL) {
        mdb_txn_abort(txn);
    }
    if (error) {
        describe(error_text, error_text_size, "cannot use %s/data.mdb: %s", directory,
                 tiers_strerror(error));
    }
    return error;
}

int warm_open(const char *directory, uint64_t map_bytes, uint64_t check_bytes_max,
              struct warm **ret_warm, char *error_text, size_t error_text_size)
{
    struct warm *warm = calloc(1, sizeof *warm);
    if (warm == NULL) {
        describe(error_text, error_text_size, "out of memory");
        return TIERS_NO_MEMORY;
    }
    warm->lock_fd = -1;
    pthread_mutex_init(&warm->mutex, NULL);
    int error = directory_lock(warm, directory, error_text, error_text_size);
    if (error == 0) {
        error = reader_table_allocate(directory, error_text, error_text_size);
    }
    if (error == 0) {
        error = file_check(warm, directory, check_bytes_max, error_text, error_text_size);
    }
    if (error == 0) {
        error = environment_open(warm, directory, map_bytes, error_text, error_text_size);
    }
    if (error == 0) {
        error = contents_load(warm, directory, error_text, error_text_size);
    }
    if (error == 0) {
        error = names_sync(directory, error_text, error_text_size);
    }
    if (error) {
        warm_close(warm);
        return error;
    }
    warm->opened_at = warm->position;
    *ret_warm = warm;
    return 0;
}

bool warm_adds_up(const struct warm *warm)
{
    return !warm->checked.complete || warm->checked.digests == warm->opened_at.state_hash;
}

bool warm_checked(const struct warm *warm)
{
    return warm->checked.complete || warm->made;
}

void warm_close(struct warm *warm)
{
    if (warm->env != NULL) {
        mdb_env_close(warm->env);
    }
    if (warm->lock_fd >= 0) {
        close(warm->lock_fd);
    }
    pthread_mutex_destroy(&warm->mutex);
    free(warm);
}

void warm_position(struct warm *warm, struct tiers_position *ret_position)
{
    pthread_mutex_lock(&warm->mutex);
    *ret_position = warm->position;
    pthread_mutex_unlock(&warm->mutex);
}

void warm_usage(struct warm *warm, struct warm_usage *ret_usage)
{
    pthread_mutex_lock(&warm->mutex);
    *ret_usage = warm->usage;
    pthread_mutex_unlock(&warm->mutex);
    ret_usage->file_bytes = file_bytes(warm);
}

uint64_t warm_segment_next_id(struct warm *warm)
{
    pthread_mutex_lock(&warm->mutex);
    uint64_t next = warm->next_segment;
    pthread_mutex_unlock(&warm->mutex);
    return next;
}

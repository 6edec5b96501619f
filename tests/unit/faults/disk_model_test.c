/* The tests' own tools: LMDB's writes are really seen and failed, and the model of a disk loses
 * what was not synced and nothing else. */
#include "lib/faults/disk_model.h"
#include "lib/faults/libc_faults.h"
#include "lib/temp_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct watch {
    char folder[TEMP_FOLDER_PATH_BYTES];
    char graves[TEMP_FOLDER_PATH_BYTES];
    unsigned seen[LIBC_MKDIR + 1];
    uint64_t written_bytes;
    enum libc_kind refuse;
    int error; /* 0: nothing is refused */
};

static bool before(void *context, const struct libc_op *op, ssize_t *result)
{
    struct watch *watch = context;
    watch->seen[op->kind]++;
    for (int i = 0; i < op->n_parts; i++)
        watch->written_bytes += op->parts[i].iov_len;
    if (watch->error == 0 || op->kind != watch->refuse)
        return false;
    *result = -watch->error;
    return true;
}

static struct libc_faults faults = {.before = before};

static int set_up(void **state)
{
    struct watch *watch = calloc(1, sizeof *watch);
    assert_non_null(watch);
    temp_folder_make(watch->folder);
    temp_folder_make(watch->graves);
    faults.context = watch;
    *state = watch;
    return 0;
}

static int tear_down(void **state)
{
    struct watch *watch = *state;
    libc_faults_set(NULL);
    temp_folder_remove(watch->folder);
    temp_folder_remove(watch->graves);
    free(watch);
    return 0;
}

static MDB_env *environment_open(const struct watch *watch)
{
    MDB_env *env = NULL;
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, watch->folder, 0, 0600), 0);
    return env;
}

static int row_commit(MDB_env *env)
{
    static unsigned char bytes[20000];
    MDB_txn *txn = NULL;
    MDB_dbi dbi;
    MDB_val key = {.mv_size = 3, .mv_data = bytes};
    MDB_val data = {.mv_size = sizeof bytes, .mv_data = bytes};
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    assert_int_equal(mdb_put(txn, dbi, &key, &data, 0), 0);
    return mdb_txn_commit(txn);
}

static void every_write_of_lmdb_is_seen(void **state)
{
    struct watch *watch = *state;
    libc_faults_set(&faults);
    MDB_env *env = environment_open(watch);
    assert_true(watch->seen[LIBC_CREATE] >= 2); /* data.mdb and lock.mdb */
    memset(watch->seen, 0, sizeof watch->seen);
    watch->written_bytes = 0;
    assert_int_equal(row_commit(env), 0);
    /* The value's pages, the tree's and the meta page; one sync, since the meta page syncs itself
     */
    assert_true(watch->seen[LIBC_WRITE] >= 2);
    assert_true(watch->written_bytes > 20000);
    assert_int_equal(watch->seen[LIBC_SYNC], 1);
    mdb_env_close(env);
}

static void every_write_of_lmdb_can_fail(void **state)
{
    struct watch *watch = *state;
    MDB_env *env = environment_open(watch);
    libc_faults_set(&faults);
    watch->refuse = LIBC_WRITE;
    watch->error = ENOSPC;
    assert_int_equal(row_commit(env), ENOSPC);
    watch->refuse = LIBC_SYNC;
    watch->error = EIO;
    assert_int_equal(row_commit(env), EIO);
    watch->error = 0;
    assert_int_equal(row_commit(env), 0);
    mdb_env_close(env);
}

static int file_make(const struct watch *watch, const char *name)
{
    char path[TEMP_FOLDER_PATH_BYTES + 32];
    snprintf(path, sizeof path, "%s/%s", watch->folder, name);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

static void fill(int fd, int byte, off_t offset, size_t n_bytes)
{
    unsigned char bytes[4096];
    assert_true(n_bytes <= sizeof bytes);
    memset(bytes, byte, n_bytes);
    disk_model_write(fd, (uint64_t)offset, n_bytes);
    assert_int_equal(pwrite(fd, bytes, n_bytes, offset), n_bytes);
}

static int byte_at(int fd, off_t offset)
{
    unsigned char byte;
    return pread(fd, &byte, 1, offset) == 1 ? byte : -1;
}

static void a_power_cut_loses_what_was_not_synced(void **state)
{
    struct watch *watch = *state;
    disk_model_start(watch->graves);
    int fd = file_make(watch, "file");
    fill(fd, 'a', 0, 2048);
    disk_model_synced(fd);
    fill(fd, 'b', 512, 512);
    fill(fd, 'c', 2048, 512);
    disk_model_lose_all();
    assert_int_equal(byte_at(fd, 512), 'a');
    assert_int_equal(byte_at(fd, 2048), -1);
    close(fd);
}

static void a_failed_sync_loses_what_is_not_written_again(void **state)
{
    struct watch *watch = *state;
    disk_model_start(watch->graves);
    int fd = file_make(watch, "file");
    fill(fd, 'a', 0, 1024);
    disk_model_synced(fd);
    fill(fd, 'b', 0, 1024);
    disk_model_sync_failed(fd);
    fill(fd, 'c', 512, 512);
    disk_model_synced(fd);
    disk_model_lose_all();
    assert_int_equal(byte_at(fd, 0), 'a');
    assert_int_equal(byte_at(fd, 512), 'c');
    close(fd);
}

static void a_power_cut_may_lose_any_part(void **state)
{
    struct watch *watch = *state;
    unsigned lost = 0;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        char name[32];
        snprintf(name, sizeof name, "file-%u", (unsigned)seed);
        disk_model_start(watch->graves);
        int fd = file_make(watch, name);
        fill(fd, 'a', 0, 4096);
        disk_model_synced(fd);
        fill(fd, 'b', 0, 4096);
        disk_model_lose_some(seed);
        for (off_t at = 0; at < 4096; at += DISK_SECTOR_BYTES)
            lost += byte_at(fd, at) == 'a';
        close(fd);
    }
    assert_true(lost > 10 && lost < 54);
}

static void a_name_is_lost_until_its_folder_is_synced(void **state)
{
    struct watch *watch = *state;
    char kept[TEMP_FOLDER_PATH_BYTES + 32];
    char made[TEMP_FOLDER_PATH_BYTES + 32];
    char gone[TEMP_FOLDER_PATH_BYTES + 32];
    char moved[TEMP_FOLDER_PATH_BYTES + 32];
    snprintf(kept, sizeof kept, "%s/kept", watch->folder);
    snprintf(made, sizeof made, "%s/made", watch->folder);
    snprintf(gone, sizeof gone, "%s/gone", watch->folder);
    snprintf(moved, sizeof moved, "%s/moved", watch->folder);
    close(file_make(watch, "gone"));
    disk_model_start(watch->graves);
    int folder = open(watch->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    disk_model_name(LIBC_CREATE, kept, NULL);
    close(file_make(watch, "kept"));
    disk_model_synced(folder);
    disk_model_name(LIBC_CREATE, made, NULL);
    close(file_make(watch, "made"));
    disk_model_name(LIBC_UNLINK, gone, NULL);
    assert_int_equal(unlink(gone), 0);
    disk_model_name(LIBC_RENAME, kept, moved);
    assert_int_equal(rename(kept, moved), 0);
    disk_model_lose_all();

    assert_int_equal(access(kept, F_OK), 0);
    assert_int_equal(access(gone, F_OK), 0);
    assert_int_equal(access(made, F_OK), -1);
    assert_int_equal(access(moved, F_OK), -1);
    close(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_write_of_lmdb_is_seen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_write_of_lmdb_can_fail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_power_cut_loses_what_was_not_synced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failed_sync_loses_what_is_not_written_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_power_cut_may_lose_any_part, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_name_is_lost_until_its_folder_is_synced, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

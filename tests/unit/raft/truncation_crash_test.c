/* A real log of libraft's backend, whose truncation is cut off at each of its file operations. The
 * backend alone refuses to load some of what is left (two segments that overlap, a gap). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/faults/libc_faults.h"
#include "lib/temp_folder.h"
#include "raft/segments.h"
#include "raft/transport.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEGMENT_ENTRIES 10
#define KEPT            5 /* Entries in front of the truncation */
#define POINTS_MAX      200

enum outcome { DONE, OLD_LOG, TRUNCATED, REWRITTEN, CRASHED = 77, WRONG = 99 };

static char folder[TEMP_FOLDER_PATH_BYTES];

struct log {
    uv_loop_t loop;
    struct raft_io io;
    struct transport *transport;
    bool appended;
};

/* In a child an assertion of the test library would go on in the parent's story. */
static void must(bool holds)
{
    if (!holds)
        _exit(WRONG);
}

static void log_open(struct log *log)
{
    static const struct transport_callbacks nobody;
    char error_text[256];

    must(uv_loop_init(&log->loop) == 0);
    must(transport_open(&log->loop, "127.0.0.1:0", &nobody, NULL, &log->transport, error_text,
                        sizeof error_text) == 0);
    must(raft_uv_init(&log->io, &log->loop, folder, transport_base(log->transport)) == 0);
    raft_uv_set_segment_size(&log->io, 64 << 10);
    raft_uv_set_tracer(&log->io, NULL);
    raft_uv_set_auto_recovery(&log->io, false);
    must(log->io.init(&log->io, 1, "127.0.0.1:1") == 0);
}

/* What the log has: its number of entries, and the term of the last one. */
static bool log_load(struct log *log, size_t *ret_n, raft_term *ret_last_term)
{
    struct raft_snapshot *snapshot = NULL;
    struct raft_entry *entries = NULL;
    raft_term term;
    raft_id vote;
    raft_index first;

    if (log->io.load(&log->io, &term, &vote, &snapshot, &first, &entries, ret_n) != 0)
        return false;
    must(snapshot == NULL && first == 1);
    *ret_last_term = *ret_n > 0 ? entries[*ret_n - 1].term : 0;
    for (size_t i = 0; i < *ret_n; i++) {
        must(entries[i].buf.len == 8 && *(uint64_t *)entries[i].buf.base == i);
        must(entries[i].term == 1 || i + 1 == *ret_n);
    }
    return true;
}

static void append_done(struct raft_io_append *request, int status)
{
    must(status == 0);
    ((struct log *)request->data)->appended = true;
}

static void log_append(struct log *log, size_t index, raft_term term, unsigned n)
{
    struct raft_io_append request = {.data = log};
    struct raft_entry entries[SEGMENT_ENTRIES];

    for (unsigned i = 0; i < n; i++) {
        uint64_t *payload = raft_malloc(8);
        must(payload != NULL);
        *payload = index - 1 + i;
        entries[i] = (struct raft_entry){
            .term = term, .type = RAFT_COMMAND, .buf = {.base = payload, .len = 8}};
    }
    log->appended = false;
    must(log->io.append(&log->io, &request, entries, n, append_done) == 0);
    while (!log->appended)
        uv_run(&log->loop, UV_RUN_ONCE);
}

static void log_closed(struct raft_io *io)
{
    io->data = io;
}

static void log_close(struct log *log)
{
    log->io.close(&log->io, log_closed);
    while (log->io.data == NULL)
        uv_run(&log->loop, UV_RUN_ONCE);
}

/* ---- What children do ---- */

/* Closing finalizes the open segment, so that each round makes a closed one. */
static int make_two_segments(uint64_t unused)
{
    (void)unused;
    for (size_t round = 0; round < 2; round++) {
        struct log log = {0};
        size_t n;
        raft_term last_term;
        log_open(&log);
        must(log_load(&log, &n, &last_term) && n == round * SEGMENT_ENTRIES);
        if (round == 0)
            must(log.io.set_term(&log.io, 1) == 0);
        log_append(&log, n + 1, 1, SEGMENT_ENTRIES);
        log_close(&log);
    }
    return DONE;
}

static bool crash_at(void *context, const struct libc_op *op, ssize_t *result)
{
    static _Atomic uint64_t points;

    (void)op;
    (void)result;
    if (atomic_fetch_add(&points, 1) == *(const uint64_t *)context)
        _exit(CRASHED);
    return false;
}

static int truncate_and_append(uint64_t point)
{
    const struct libc_faults faults = {.context = &point, .before = crash_at};
    struct log log = {0};
    size_t n;
    raft_term last_term;

    log_open(&log);
    must(log_load(&log, &n, &last_term) && n == (size_t)2 * SEGMENT_ENTRIES);
    libc_faults_set(&faults);
    must(segments_note_truncation(folder, KEPT + 1) == 0);
    must(log.io.truncate(&log.io, KEPT + 1) == 0);
    log_append(&log, KEPT + 1, 2, 1);
    log_close(&log);
    libc_faults_set(NULL);
    return DONE;
}

static int look(uint64_t unused)
{
    struct log log = {0};
    char error_text[256];
    unsigned removed;
    size_t n;
    raft_term last_term;

    (void)unused;
    must(segments_repair(folder, &removed, error_text, sizeof error_text) == 0);
    log_open(&log);
    must(log_load(&log, &n, &last_term));
    if (n == (size_t)2 * SEGMENT_ENTRIES && last_term == 1)
        return OLD_LOG;
    if (n == KEPT && last_term == 1)
        return TRUNCATED;
    return n == KEPT + 1 && last_term == 2 ? REWRITTEN : WRONG;
}

static int in_child(int (*job)(uint64_t), uint64_t argument)
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(job(argument));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void a_truncation_that_is_cut_off_anywhere_leaves_a_log_that_loads(void **unused)
{
    (void)unused;
    unsigned seen[REWRITTEN + 1] = {0};
    int end = CRASHED;
    uint64_t point;

    for (point = 0; end == CRASHED && point < POINTS_MAX; point++) {
        temp_folder_make(folder);
        assert_int_equal(in_child(make_two_segments, 0), DONE);
        end = in_child(truncate_and_append, point);
        assert_true(end == CRASHED || end == DONE);
        int outcome = in_child(look, 0);
        if (outcome < OLD_LOG || outcome > REWRITTEN)
            fail_msg("point %llu: outcome %d", (unsigned long long)point, outcome);
        seen[outcome]++;
        assert_true(end == CRASHED || outcome == REWRITTEN);
        temp_folder_remove(folder);
    }
    assert_int_equal(end, DONE);
    print_message("%llu points: the old log after %u, a truncated one after %u, the new after %u\n",
                  (unsigned long long)point - 1, seen[OLD_LOG], seen[TRUNCATED], seen[REWRITTEN]);
    assert_true(seen[OLD_LOG] > 0 && seen[TRUNCATED] > 0 && seen[REWRITTEN] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_truncation_that_is_cut_off_anywhere_leaves_a_log_that_loads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* LMDB's pages and nodes: see warm_pages.h. */
#include "warm_pages.h"

#include "file.h"
#include "tiers/tiers.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* How far the end that the meta page names may lie beyond the end of the file. */
#define PAGES_AHEAD_MAX (1u << 20)

int warm_pages_damaged(struct warm_pages *pages, uint64_t page, const char *format, ...)
{
    char what[160];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    if (pages->error_text != NULL) {
        snprintf(pages->error_text, pages->error_text_size, "%s is damaged: page %" PRIu64 " %s",
                 pages->name, page, what);
    }
    return TIERS_CORRUPT;
}

int warm_pages_read(struct warm_pages *pages, void *bytes, size_t n, uint64_t offset)
{
    ssize_t done = file_read(pages->fd, bytes, n, offset);
    int cause = errno;
    if (done == (ssize_t)n) {
        pages->bytes_read += n;
        return 0;
    }
    if (done >= 0) {
        return warm_pages_damaged(pages, offset / pages->meta.page_bytes,
                                  "lies beyond the end of the file");
    }
    if (pages->error_text != NULL) {
        snprintf(pages->error_text, pages->error_text_size, "cannot read %s: page %" PRIu64 ": %s",
                 pages->name, offset / pages->meta.page_bytes, strerror(cause));
    }
    return TIERS_IO;
}

/* ---- The file ---- */

int warm_pages_meta_choose(struct warm_pages *pages, const struct meta metas[2])
{
    uint64_t first = metas[0].transaction;
    uint64_t second = metas[1].transaction;
    bool fresh = first == 0 && second == 0;
    if (!fresh && (first % 2 != 0 || second % 2 != 1 ||
                   (first > second ? first - second : second - first) != 1)) {
        return warm_pages_damaged(
            pages, 0, "and page 1 are of transactions %" PRIu64 " and %" PRIu64, first, second);
    }
    pages->meta = metas[second > first];
    return 0;
}

int warm_pages_length_check(struct warm_pages *pages)
{
    struct stat status;
    if (fstat(pages->fd, &status) != 0) {
        return TIERS_IO;
    }
    pages->file_pages = (uint64_t)status.st_size / pages->meta.page_bytes;
    if (pages->meta.last_page < 1 ||
        pages->meta.last_page > 2 * pages->file_pages + PAGES_AHEAD_MAX) {
        return warm_pages_damaged(pages, 0, "and page 1 name an impossible last page");
    }
    return 0;
}

int warm_pages_tree_check(struct warm_pages *pages, const struct tree *tree, bool numbers)
{
    if ((tree->flags & TREE_FLAGS) != (numbers ? TREE_NUMBERS : 0)) {
        return warm_pages_damaged(pages, tree->root, "is the root of a tree of another order");
    }
    if (tree->depth >= WARM_PAGES_DEPTH_MAX || (tree->depth == 0) != (tree->root == NO_PAGE)) {
        return warm_pages_damaged(pages, tree->root, "is the root of a tree of impossible depth");
    }
    return 0;
}

/* ---- Pages and nodes ---- */

int warm_page_read(struct warm_pages *pages, uint64_t number, unsigned flags, unsigned char *bytes)
{
    uint32_t page_bytes = pages->meta.page_bytes;
    if (number < 2 || number > pages->meta.last_page) {
        return warm_pages_damaged(pages, number, "does not exist, but something refers to it");
    }
    int error = warm_pages_read(pages, bytes, page_bytes, number * page_bytes);
    if (error) {
        return error;
    }
    if (get(bytes, 0, 8) != number) {
        return warm_pages_damaged(pages, number, "says that it is page %" PRIu64, get(bytes, 0, 8));
    }
    if (get(bytes, PAGE_FLAGS_AT, 2) != flags) {
        return warm_pages_damaged(pages, number, "is of kind %u in place of %u",
                                  (unsigned)get(bytes, PAGE_FLAGS_AT, 2), flags);
    }
    return 0;
}

static bool node_get(const struct warm_pages *pages, const unsigned char *page, size_t i,
                     bool branch, struct warm_node *ret_node)
{
    uint32_t page_bytes = pages->meta.page_bytes;
    size_t at = get(page, PAGE_HEADER_BYTES + 2 * i, 2);
    if (at < get(page, PAGE_UPPER_AT, 2) || at % 2 != 0 || at + NODE_HEADER_BYTES > page_bytes) {
        return false;
    }
    const unsigned char *bytes = page + at;
    size_t key_len = get(bytes, 6, 2);
    struct warm_node node = {
        .data_len = (uint32_t)get(bytes, 0, 4),
        .flags = branch ? 0 : (unsigned)get(bytes, 4, 2),
        .page = get(bytes, 0, 6),
        .key = {.mv_size = key_len, .mv_data = (void *)(uintptr_t)(bytes + NODE_HEADER_BYTES)},
        .data = bytes + NODE_HEADER_BYTES + key_len};
    size_t inside = branch ? 0 : (node.flags & NODE_ELSEWHERE) != 0 ? 8 : node.data_len;
    if (inside > page_bytes || key_len > TIERS_KEY_BYTES_MAX) {
        return false;
    }
    node.bytes = (NODE_HEADER_BYTES + key_len + inside + 1) / 2 * 2;
    *ret_node = node;
    return at + node.bytes <= page_bytes;
}

int warm_page_check(struct warm_pages *pages, uint64_t number, const unsigned char *page,
                    bool branch, size_t *ret_n)
{
    uint32_t lower = (uint32_t)get(page, PAGE_LOWER_AT, 2);
    uint32_t upper = (uint32_t)get(page, PAGE_UPPER_AT, 2);
    if (lower <= PAGE_HEADER_BYTES || lower % 2 != 0 || lower > upper ||
        upper > pages->meta.page_bytes) {
        return warm_pages_damaged(pages, number, "has impossible bounds");
    }
    size_t n = (lower - PAGE_HEADER_BYTES) / 2;
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        struct warm_node node = {0};
        if (!node_get(pages, page, i, branch, &node)) {
            return warm_pages_damaged(pages, number, "has an impossible node");
        }
        bytes += node.bytes;
    }
    if (bytes != pages->meta.page_bytes - upper) {
        return warm_pages_damaged(pages, number, "has nodes that do not fill their room");
    }
    *ret_n = n;
    return 0;
}

struct warm_node warm_page_node(const struct warm_pages *pages, const unsigned char *page, size_t i,
                                bool branch)
{
    struct warm_node node = {0};
    bool well_formed = node_get(pages, page, i, branch, &node);
    assert(well_formed && node.key.mv_data != NULL);
    return node;
}

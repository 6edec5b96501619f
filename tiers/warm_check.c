/* A walk through LMDB's pages: see warm_check.h.
 *
 * Each level of a tree has a buffer of its own, so that a parent stays in place while its children
 * are walked. The first finding ends the walk with its sentence. One thread, at opening. */
#include "warm_check.h"

#include "file.h"
#include "warm_item.h"
#include "warm_layout.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 32

/* How far the end that the meta page names may lie beyond the end of the file. */
#define PAGES_AHEAD_MAX (1u << 20)

enum content { CONTENT_FREE, CONTENT_MAIN, CONTENT_ITEMS, CONTENT_ROWS };

struct walk {
    int fd;
    const char *name;
    struct meta meta;
    uint64_t file_pages;
    unsigned char *used;  /* One bit for each page */
    unsigned char *pages; /* DEPTH_MAX of them, and one for what lies elsewhere */
    struct warm_check found;
    char *error_text;
    size_t error_text_size;
};

/* The tree being walked, and what was counted. */
struct tour {
    enum content content;
    struct tree expected;
    struct tree counted;
    unsigned char last[TIERS_KEY_BYTES_MAX];
    size_t last_len;
    bool may_equal; /* `last` is a branch's key: the next may be the same */
    bool started;
};

__attribute__((format(printf, 3, 4))) static int damaged(const struct walk *walk, uint64_t page,
                                                         const char *format, ...)
{
    char what[160];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    if (walk->error_text != NULL) {
        snprintf(walk->error_text, walk->error_text_size, "%s is damaged: page %" PRIu64 " %s",
                 walk->name, page, what);
    }
    return TIERS_CORRUPT;
}

static int read_bytes(const struct walk *walk, void *bytes, size_t n, uint64_t offset)
{
    ssize_t done = file_read(walk->fd, bytes, n, offset);
    if (done == (ssize_t)n) {
        return 0;
    }
    if (done >= 0) {
        return damaged(walk, offset / walk->meta.page_bytes, "lies beyond the end of the file");
    }
    int cause = errno;
    if (walk->error_text != NULL) {
        snprintf(walk->error_text, walk->error_text_size, "cannot read %s: %s", walk->name,
                 strerror(cause));
    }
    return TIERS_IO;
}

/* ---- Pages ---- */

/* Each page has one use only. */
static int page_use(struct walk *walk, uint64_t page, uint64_t n)
{
    if (page < 2 || n > walk->meta.last_page + 1 || page > walk->meta.last_page + 1 - n) {
        return damaged(walk, page, "does not exist, but something refers to it");
    }
    for (uint64_t at = page; at < page + n; at++) {
        unsigned char bit = (unsigned char)(1u << (at % 8));
        if ((walk->used[at / 8] & bit) != 0) {
            return damaged(walk, at, "has two uses");
        }
        walk->used[at / 8] |= bit;
    }
    return 0;
}

static int page_read(struct walk *walk, uint64_t page, unsigned flags, unsigned char *bytes)
{
    int error = read_bytes(walk, bytes, walk->meta.page_bytes, page * walk->meta.page_bytes);
    if (error) {
        return error;
    }
    if (get(bytes, 0, 8) != page) {
        return damaged(walk, page, "says that it is page %" PRIu64, get(bytes, 0, 8));
    }
    if (get(bytes, PAGE_FLAGS_AT, 2) != flags) {
        return damaged(walk, page, "is of kind %u in place of %u",
                       (unsigned)get(bytes, PAGE_FLAGS_AT, 2), flags);
    }
    return 0;
}

/* ---- Nodes ---- */

struct node {
    uint32_t data_len; /* Leaf */
    uint64_t page;     /* Branch */
    unsigned flags;
    MDB_val key;
    const unsigned char *data; /* Leaf: what lies in the page itself */
    size_t bytes;              /* That it takes */
};

static bool node_get(const struct walk *walk, const unsigned char *page, size_t i, bool branch,
                     struct node *ret_node)
{
    uint32_t page_bytes = walk->meta.page_bytes;
    size_t at = get(page, PAGE_HEADER_BYTES + 2 * i, 2);
    if (at < get(page, PAGE_UPPER_AT, 2) || at % 2 != 0 || at + NODE_HEADER_BYTES > page_bytes) {
        return false;
    }
    const unsigned char *bytes = page + at;
    size_t key_len = get(bytes, 6, 2);
    struct node node = {
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

/* The number of nodes, all of which are well-formed. */
static int nodes_check(const struct walk *walk, uint64_t number, const unsigned char *page,
                       bool branch, size_t *ret_n)
{
    uint32_t lower = (uint32_t)get(page, PAGE_LOWER_AT, 2);
    uint32_t upper = (uint32_t)get(page, PAGE_UPPER_AT, 2);
    if (lower <= PAGE_HEADER_BYTES || lower % 2 != 0 || lower > upper ||
        upper > walk->meta.page_bytes) {
        return damaged(walk, number, "has impossible bounds");
    }
    size_t n = (lower - PAGE_HEADER_BYTES) / 2;
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        struct node node = {0};
        if (!node_get(walk, page, i, branch, &node)) {
            return damaged(walk, number, "has an impossible node");
        }
        bytes += node.bytes;
    }
    if (bytes != walk->meta.page_bytes - upper) {
        return damaged(walk, number, "has nodes that do not fill their room");
    }
    *ret_n = n;
    return 0;
}

/* Keys only ever grow, and a branch's key lies between its neighbours. */
static bool key_in_order(struct tour *tour, const MDB_val *key, bool separator)
{
    int order = 1;
    if (tour->started && tour->content == CONTENT_FREE) {
        uint64_t last = get(tour->last, 0, 8);
        uint64_t now = key->mv_size == 8 ? get(key->mv_data, 0, 8) : 0;
        order = (now > last) - (now < last);
    } else if (tour->started) {
        size_t n = key->mv_size < tour->last_len ? key->mv_size : tour->last_len;
        order = memcmp(key->mv_data, tour->last, n);
        if (order == 0) {
            order = (key->mv_size > tour->last_len) - (key->mv_size < tour->last_len);
        }
    }
    if (key->mv_size == 0 || order < 0 || (order == 0 && !tour->may_equal) ||
        (tour->content == CONTENT_FREE && key->mv_size != 8)) {
        return false;
    }
    memcpy(tour->last, key->mv_data, key->mv_size);
    tour->last_len = key->mv_size;
    tour->may_equal = separator;
    tour->started = true;
    return true;
}

/* ---- What the nodes hold ---- */

static int tree_walk(struct walk *walk, const struct tree *tree, enum content content);

/* A list of free pages: their number, then they themselves. */
static int free_list_check(struct walk *walk, uint64_t number, const MDB_val *data)
{
    if (data->mv_size < 8 || get(data->mv_data, 0, 8) > data->mv_size / 8 - 1) {
        return damaged(walk, number, "has an impossible list of free pages");
    }
    uint64_t n = get(data->mv_data, 0, 8);
    for (uint64_t i = 1; i <= n; i++) {
        int error = page_use(walk, get(data->mv_data, 8 * i, 8), 1);
        if (error) {
            return error;
        }
    }
    return 0;
}

static int content_check(struct walk *walk, const struct tour *tour, uint64_t number,
                         const struct node *node, const MDB_val *data)
{
    struct warm_item item;
    switch (tour->content) {
    case CONTENT_FREE:
        return free_list_check(walk, number, data);
    case CONTENT_ITEMS:
        if (warm_item_decode(&node->key, data, &item) != 0) {
            return damaged(walk, number, "has an item that fails its check");
        }
        walk->found.digests += item.digest;
        return 0;
    case CONTENT_MAIN:
        if (node->flags != NODE_TREE || data->mv_size != TREE_BYTES) {
            return damaged(walk, number, "has something else than a tree");
        }
        struct tree tree = tree_get(data->mv_data);
        bool items = (node->key.mv_size == 4 && memcmp(node->key.mv_data, "user", 4) == 0) ||
                     (node->key.mv_size == 6 && memcmp(node->key.mv_data, "system", 6) == 0);
        return tree_walk(walk, &tree, items ? CONTENT_ITEMS : CONTENT_ROWS);
    case CONTENT_ROWS:
        break;
    }
    return 0;
}

/* Free lists are read whole; of an item its first page, which has all but the end of its value.
 * LMDB leaves a value more pages than it needs when a shorter one takes its place within a
 * transaction. */
static int elsewhere_check(struct walk *walk, struct tour *tour, uint64_t number,
                           const struct node *node)
{
    uint32_t page_bytes = walk->meta.page_bytes;
    uint64_t first = get(node->data, 0, 8);
    uint64_t needed = (PAGE_HEADER_BYTES - 1 + (uint64_t)node->data_len) / page_bytes + 1;
    unsigned char *page = walk->pages + (size_t)DEPTH_MAX * page_bytes;
    int error = page_use(walk, first, needed);
    if (error == 0) {
        error = page_read(walk, first, PAGE_OVERFLOW, page);
    }
    if (error) {
        return error;
    }
    uint64_t n = get(page, PAGE_LOWER_AT, 4);
    if (n < needed || first + n > walk->file_pages) {
        return damaged(walk, first, "begins a value of another length");
    }
    error = page_use(walk, first + needed, n - needed);
    if (error) {
        return error;
    }
    tour->counted.overflow_pages += n;
    MDB_val data = {.mv_size = node->data_len, .mv_data = page + PAGE_HEADER_BYTES};
    if (n == 1 || tour->content != CONTENT_FREE) {
        return content_check(walk, tour, number, node, &data);
    }
    unsigned char *list = malloc(node->data_len);
    if (list == NULL) {
        return TIERS_NO_MEMORY;
    }
    data.mv_data = list;
    error =
        read_bytes(walk, list, node->data_len, first * page_bytes + (uint64_t)PAGE_HEADER_BYTES);
    if (error == 0) {
        error = content_check(walk, tour, number, node, &data);
    }
    free(list);
    return error;
}

static int leaf_check(struct walk *walk, struct tour *tour, uint64_t number,
                      const unsigned char *page, size_t n)
{
    int error = 0;
    tour->counted.leaf_pages++;
    for (size_t i = 0; i < n && error == 0; i++) {
        struct node node = {0};
        bool well_formed = node_get(walk, page, i, false, &node);
        assert(well_formed && node.key.mv_data != NULL); /* As nodes_check found */
        if (!key_in_order(tour, &node.key, false)) {
            return damaged(walk, number, "has keys out of order");
        }
        tour->counted.entries++;
        MDB_val data = {.mv_size = node.data_len, .mv_data = (void *)(uintptr_t)node.data};
        if (node.flags == NODE_ELSEWHERE) {
            error = elsewhere_check(walk, tour, number, &node);
        } else if (node.flags == 0 || tour->content == CONTENT_MAIN) {
            error = content_check(walk, tour, number, &node, &data);
        } else {
            error = damaged(walk, number, "has a node of kind %u", node.flags);
        }
    }
    return error;
}

/* ---- Trees ---- */

/* NOLINTNEXTLINE(misc-no-recursion): bounded by DEPTH_MAX */
static int page_walk(struct walk *walk, struct tour *tour, uint64_t number, unsigned level)
{
    unsigned char *page = walk->pages + (size_t)level * walk->meta.page_bytes;
    bool branch = level < tour->expected.depth;
    size_t n = 0;
    int error = page_use(walk, number, 1);
    if (error == 0) {
        error = page_read(walk, number, branch ? PAGE_BRANCH : PAGE_LEAF, page);
    }
    if (error == 0) {
        error = nodes_check(walk, number, page, branch, &n);
    }
    if (error || !branch) {
        return error ? error : leaf_check(walk, tour, number, page, n);
    }
    tour->counted.branch_pages++;
    for (size_t i = 0; i < n && error == 0; i++) {
        struct node node = {0};
        bool well_formed = node_get(walk, page, i, true, &node);
        assert(well_formed && node.key.mv_data != NULL);
        if (i > 0 && !key_in_order(tour, &node.key, true)) {
            return damaged(walk, number, "has keys out of order");
        }
        error = page_walk(walk, tour, node.page, level + 1);
    }
    return error;
}

/* NOLINTNEXTLINE(misc-no-recursion): the main tree holds trees, those hold none */
static int tree_walk(struct walk *walk, const struct tree *tree, enum content content)
{
    struct tour *tour = calloc(1, sizeof *tour);
    unsigned char *pages = walk->pages;
    unsigned char *own = NULL;
    int error = tour == NULL ? TIERS_NO_MEMORY : 0;
    if (error == 0 && content != CONTENT_FREE && content != CONTENT_MAIN) {
        /* The main tree's pages stay in place. */
        own = malloc((size_t)(DEPTH_MAX + 1) * walk->meta.page_bytes);
        walk->pages = own;
        error = own == NULL ? TIERS_NO_MEMORY : 0;
    }
    if (error == 0) {
        *tour = (struct tour){.content = content, .expected = *tree};
        tour->counted.depth = tree->depth;
        tour->counted.root = tree->root;
        unsigned flags = content == CONTENT_FREE ? TREE_NUMBERS : 0;
        if ((tree->flags & TREE_FLAGS) != flags) {
            error = damaged(walk, tree->root, "is the root of a tree of another order");
        } else if (tree->depth >= DEPTH_MAX || (tree->depth == 0) != (tree->root == NO_PAGE)) {
            error = damaged(walk, tree->root, "is the root of a tree of impossible depth");
        } else if (tree->depth > 0) {
            error = page_walk(walk, tour, tree->root, 1);
        }
    }
    if (error == 0 && (tour->counted.branch_pages != tree->branch_pages ||
                       tour->counted.leaf_pages != tree->leaf_pages ||
                       tour->counted.overflow_pages != tree->overflow_pages ||
                       tour->counted.entries != tree->entries)) {
        error = damaged(walk, tree->root, "is the root of a tree with other counts than it names");
    }
    free(own);
    free(tour);
    walk->pages = pages;
    return error;
}

/* ---- The file ---- */

/* Each commit writes the meta page that its number names by its last bit, so that the two always
 * are of consecutive ones: else the older would pass for the newer. */
static int metas_read(struct walk *walk, bool *ret_known)
{
    unsigned char page[PAGE_HEADER_BYTES + META_BYTES];
    struct meta metas[2];
    *ret_known = false;
    walk->meta.page_bytes = PAGE_MIN;
    ssize_t n = file_read(walk->fd, page, sizeof page, 0);
    if (n >= 0 && (n < (ssize_t)sizeof page || !meta_get(page, &metas[0]))) {
        return 0;
    }
    if (n < 0) {
        return read_bytes(walk, page, sizeof page, 0);
    }
    uint32_t page_bytes = metas[0].page_bytes;
    if (page_bytes < PAGE_MIN || page_bytes > PAGE_MAX || (page_bytes & (page_bytes - 1)) != 0) {
        return damaged(walk, 0, "names an impossible page size");
    }
    walk->meta.page_bytes = page_bytes;
    int error = read_bytes(walk, page, sizeof page, page_bytes);
    if (error) {
        return error;
    }
    uint64_t first = metas[0].transaction;
    if (!meta_get(page, &metas[1]) || metas[1].page_bytes != page_bytes) {
        return damaged(walk, 1, "is no meta page");
    }
    uint64_t second = metas[1].transaction;
    bool fresh = first == 0 && second == 0;
    if (!fresh && (first % 2 != 0 || second % 2 != 1 ||
                   (first > second ? first - second : second - first) != 1)) {
        return damaged(walk, 0, "and page 1 are of transactions %" PRIu64 " and %" PRIu64, first,
                       second);
    }
    walk->meta = metas[second > first];
    *ret_known = true;
    return 0;
}

static int trees_walk(struct walk *walk)
{
    walk->used = calloc(walk->meta.last_page / 8 + 1, 1);
    walk->pages = malloc((size_t)(DEPTH_MAX + 1) * walk->meta.page_bytes);
    int error = walk->used == NULL || walk->pages == NULL ? TIERS_NO_MEMORY : 0;
    if (error == 0) {
        error = tree_walk(walk, &walk->meta.free, CONTENT_FREE);
    }
    if (error == 0) {
        error = tree_walk(walk, &walk->meta.main, CONTENT_MAIN);
    }
    free(walk->used);
    free(walk->pages);
    walk->found.complete = error == 0;
    return error;
}

static int file_walk(struct walk *walk, uint64_t bytes_max)
{
    struct stat status;
    bool known = false;
    int error = metas_read(walk, &known);
    if (error || !known) {
        return error;
    }
    if (fstat(walk->fd, &status) != 0) {
        return TIERS_IO;
    }
    walk->file_pages = (uint64_t)status.st_size / walk->meta.page_bytes;
    if (walk->meta.last_page < 1 || walk->meta.last_page > 2 * walk->file_pages + PAGES_AHEAD_MAX) {
        return damaged(walk, 0, "and page 1 name an impossible last page");
    }
    if (walk->meta.last_page >= bytes_max / walk->meta.page_bytes) {
        return 0;
    }
    (void)posix_fadvise(walk->fd, 0, 0, POSIX_FADV_WILLNEED);
    return trees_walk(walk);
}

int warm_check(const char *path, uint64_t bytes_max, struct warm_check *ret_check, char *error_text,
               size_t error_text_size)
{
    struct walk walk = {.fd = file_open(AT_FDCWD, path, O_RDONLY, 0),
                        .name = path,
                        .error_text = error_text,
                        .error_text_size = error_text_size};
    if (walk.fd == -1) {
        *ret_check = walk.found; /* LMDB will make it, or say why it cannot open it */
        return 0;
    }
    int error = file_walk(&walk, bytes_max);
    (void)close(walk.fd);
    if (error == 0) {
        *ret_check = walk.found;
    }
    return error;
}

/* A walk through LMDB's pages: see warm_check.h.
 *
 * Each level of a tree has a buffer of its own, so that a parent stays in place while its children
 * are walked. The first finding ends the walk with its sentence. One thread, at opening. */
#include "warm_check.h"

#include "file.h"
#include "warm_item.h"
#include "warm_pages.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum content { CONTENT_FREE, CONTENT_MAIN, CONTENT_ITEMS, CONTENT_ROWS };

struct walk {
    struct warm_pages pages;
    unsigned char *used;   /* One bit for each page */
    unsigned char *levels; /* A page for each, and one for what lies elsewhere */
    bool whole;            /* Else without the users' items and what is free */
    struct warm_check found;
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

/* ---- Pages ---- */

/* Each page has one use only. */
static int page_use(struct walk *walk, uint64_t page, uint64_t n)
{
    if (page < 2 || n > walk->pages.meta.last_page + 1 ||
        page > walk->pages.meta.last_page + 1 - n) {
        return warm_pages_damaged(&walk->pages, page, "does not exist, but something refers to it");
    }
    for (uint64_t at = page; at < page + n; at++) {
        unsigned char bit = (unsigned char)(1u << (at % 8));
        if ((walk->used[at / 8] & bit) != 0) {
            return warm_pages_damaged(&walk->pages, at, "has two uses");
        }
        walk->used[at / 8] |= bit;
    }
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
        return warm_pages_damaged(&walk->pages, number, "has an impossible list of free pages");
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

static bool is_named(const MDB_val *key, const char *name)
{
    return key->mv_size == strlen(name) && memcmp(key->mv_data, name, key->mv_size) == 0;
}

static int named_tree_walk(struct walk *walk, uint64_t number, const MDB_val *name,
                           const MDB_val *data)
{
    struct tree tree = tree_get(data->mv_data);
    if (is_named(name, WARM_USER_TREE)) {
        return walk->whole ? tree_walk(walk, &tree, CONTENT_ITEMS)
                           : warm_pages_tree_check(&walk->pages, &tree, false);
    }
    if (is_named(name, WARM_SYSTEM_TREE)) {
        return tree_walk(walk, &tree, CONTENT_ITEMS);
    }
    if (is_named(name, WARM_SEGMENTS_TREE) || is_named(name, WARM_META_TREE)) {
        return tree_walk(walk, &tree, CONTENT_ROWS);
    }
    return warm_pages_damaged(&walk->pages, number, "names a tree that there is not");
}

static int content_check(struct walk *walk, const struct tour *tour, uint64_t number,
                         const struct warm_node *node, const MDB_val *data)
{
    struct warm_item item;
    switch (tour->content) {
    case CONTENT_FREE:
        return free_list_check(walk, number, data);
    case CONTENT_ITEMS:
        if (warm_item_decode(&node->key, data, &item) != 0) {
            return warm_pages_damaged(&walk->pages, number, "has an item that fails its check");
        }
        walk->found.digests += item.digest;
        return 0;
    case CONTENT_MAIN:
        if (node->flags != NODE_TREE || data->mv_size != TREE_BYTES) {
            return warm_pages_damaged(&walk->pages, number, "has something else than a tree");
        }
        return named_tree_walk(walk, number, &node->key, data);
    case CONTENT_ROWS:
        break;
    }
    return 0;
}

/* Free lists are read whole; of an item its first page, which has all but the end of its value.
 * LMDB leaves a value more pages than it needs when a shorter one takes its place within a
 * transaction. */
static int elsewhere_check(struct walk *walk, struct tour *tour, uint64_t number,
                           const struct warm_node *node)
{
    uint32_t page_bytes = walk->pages.meta.page_bytes;
    uint64_t first = get(node->data, 0, 8);
    uint64_t needed = (PAGE_HEADER_BYTES - 1 + (uint64_t)node->data_len) / page_bytes + 1;
    unsigned char *page = walk->levels + (size_t)WARM_PAGES_DEPTH_MAX * page_bytes;
    int error = page_use(walk, first, needed);
    if (error == 0) {
        error = warm_page_read(&walk->pages, first, PAGE_OVERFLOW, page);
    }
    if (error) {
        return error;
    }
    uint64_t n = get(page, PAGE_LOWER_AT, 4);
    if (n < needed || first + n > walk->pages.file_pages) {
        return warm_pages_damaged(&walk->pages, first, "begins a value of another length");
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
    error = warm_pages_read(&walk->pages, list, node->data_len,
                            first * page_bytes + (uint64_t)PAGE_HEADER_BYTES);
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
        struct warm_node node = warm_page_node(&walk->pages, page, i, false);
        if (!key_in_order(tour, &node.key, false)) {
            return warm_pages_damaged(&walk->pages, number, "has keys out of order");
        }
        tour->counted.entries++;
        MDB_val data = {.mv_size = node.data_len, .mv_data = (void *)(uintptr_t)node.data};
        if (node.flags == NODE_ELSEWHERE) {
            error = elsewhere_check(walk, tour, number, &node);
        } else if (node.flags == 0 || tour->content == CONTENT_MAIN) {
            error = content_check(walk, tour, number, &node, &data);
        } else {
            error = warm_pages_damaged(&walk->pages, number, "has a node of kind %u", node.flags);
        }
    }
    return error;
}

/* ---- Trees ---- */

/* NOLINTNEXTLINE(misc-no-recursion): bounded by WARM_PAGES_DEPTH_MAX */
static int page_walk(struct walk *walk, struct tour *tour, uint64_t number, unsigned level)
{
    unsigned char *page = walk->levels + (size_t)level * walk->pages.meta.page_bytes;
    bool branch = level < tour->expected.depth;
    size_t n = 0;
    int error = page_use(walk, number, 1);
    if (error == 0) {
        error = warm_page_read(&walk->pages, number, branch ? PAGE_BRANCH : PAGE_LEAF, page);
    }
    if (error == 0) {
        error = warm_page_check(&walk->pages, number, page, branch, &n);
    }
    if (error || !branch) {
        return error ? error : leaf_check(walk, tour, number, page, n);
    }
    tour->counted.branch_pages++;
    for (size_t i = 0; i < n && error == 0; i++) {
        struct warm_node node = warm_page_node(&walk->pages, page, i, true);
        if (i > 0 && !key_in_order(tour, &node.key, true)) {
            return warm_pages_damaged(&walk->pages, number, "has keys out of order");
        }
        error = page_walk(walk, tour, node.page, level + 1);
    }
    return error;
}

/* NOLINTNEXTLINE(misc-no-recursion): the main tree holds trees, those hold none */
static int tree_walk(struct walk *walk, const struct tree *tree, enum content content)
{
    struct tour *tour = calloc(1, sizeof *tour);
    unsigned char *levels = walk->levels;
    unsigned char *own = NULL;
    int error = tour == NULL ? TIERS_NO_MEMORY : 0;
    if (error == 0 && content != CONTENT_FREE && content != CONTENT_MAIN) {
        /* The main tree's pages stay in place. */
        own = malloc((size_t)(WARM_PAGES_DEPTH_MAX + 1) * walk->pages.meta.page_bytes);
        walk->levels = own;
        error = own == NULL ? TIERS_NO_MEMORY : 0;
    }
    if (error == 0) {
        *tour = (struct tour){.content = content, .expected = *tree};
        tour->counted.depth = tree->depth;
        tour->counted.root = tree->root;
        error = warm_pages_tree_check(&walk->pages, tree, content == CONTENT_FREE);
        if (error == 0 && tree->depth > 0) {
            error = page_walk(walk, tour, tree->root, 1);
        }
    }
    if (error == 0 && (tour->counted.branch_pages != tree->branch_pages ||
                       tour->counted.leaf_pages != tree->leaf_pages ||
                       tour->counted.overflow_pages != tree->overflow_pages ||
                       tour->counted.entries != tree->entries)) {
        error = warm_pages_damaged(&walk->pages, tree->root,
                                   "is the root of a tree with other counts than it names");
    }
    free(own);
    free(tour);
    walk->levels = levels;
    return error;
}

/* ---- The file ---- */

static int metas_read(struct walk *walk, bool *ret_known)
{
    unsigned char page[PAGE_HEADER_BYTES + META_BYTES];
    struct meta metas[2];
    *ret_known = false;
    walk->pages.meta.page_bytes = PAGE_MIN;
    ssize_t n = file_read(walk->pages.fd, page, sizeof page, 0);
    if (n >= 0 && (n < (ssize_t)sizeof page || !meta_get(page, &metas[0]))) {
        return 0;
    }
    if (n < 0) {
        return warm_pages_read(&walk->pages, page, sizeof page, 0);
    }
    uint32_t page_bytes = metas[0].page_bytes;
    if (page_bytes < PAGE_MIN || page_bytes > PAGE_MAX || (page_bytes & (page_bytes - 1)) != 0) {
        return warm_pages_damaged(&walk->pages, 0, "names an impossible page size");
    }
    walk->pages.meta.page_bytes = page_bytes;
    int error = warm_pages_read(&walk->pages, page, sizeof page, page_bytes);
    if (error) {
        return error;
    }
    if (!meta_get(page, &metas[1]) || metas[1].page_bytes != page_bytes) {
        return warm_pages_damaged(&walk->pages, 1, "is no meta page");
    }
    *ret_known = true;
    return warm_pages_meta_choose(&walk->pages, metas);
}

static int trees_walk(struct walk *walk)
{
    walk->used = calloc(walk->pages.meta.last_page / 8 + 1, 1);
    walk->levels = malloc((size_t)(WARM_PAGES_DEPTH_MAX + 1) * walk->pages.meta.page_bytes);
    int error = walk->used == NULL || walk->levels == NULL ? TIERS_NO_MEMORY : 0;
    if (error == 0 && walk->whole) {
        error = tree_walk(walk, &walk->pages.meta.free, CONTENT_FREE);
    }
    if (error == 0) {
        error = tree_walk(walk, &walk->pages.meta.main, CONTENT_MAIN);
    }
    free(walk->used);
    free(walk->levels);
    walk->found.complete = error == 0 && walk->whole;
    return error;
}

static int file_walk(struct walk *walk, uint64_t bytes_max)
{
    bool known = false;
    int error = metas_read(walk, &known);
    if (error || !known) {
        return error;
    }
    error = warm_pages_length_check(&walk->pages);
    if (error) {
        return error;
    }
    walk->whole = walk->pages.meta.last_page < bytes_max / walk->pages.meta.page_bytes;
    if (walk->whole) {
        (void)posix_fadvise(walk->pages.fd, 0, 0, POSIX_FADV_WILLNEED);
    }
    return trees_walk(walk);
}

int warm_check(const char *path, uint64_t bytes_max, struct warm_check *ret_check, char *error_text,
               size_t error_text_size)
{
    struct walk walk = {.pages = {.fd = file_open(AT_FDCWD, path, O_RDONLY, 0),
                                  .name = path,
                                  .error_text = error_text,
                                  .error_text_size = error_text_size}};
    if (walk.pages.fd == -1) {
        *ret_check = walk.found; /* LMDB will make it, or say why it cannot open it */
        return 0;
    }
    int error = file_walk(&walk, bytes_max);
    (void)close(walk.pages.fd);
    if (error == 0) {
        *ret_check = walk.found;
    }
    return error;
}

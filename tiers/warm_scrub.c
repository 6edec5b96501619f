/* A walk through the trees in pieces: see warm_scrub.h.
 *
 * Between two pieces only the tree and the last key are kept, since every transaction may move any
 * page. A piece begins with the meta pages, finds the trees' roots, goes down to the leaf of that
 * key and on from there. The pages on the way down stay in memory: a page's keys must lie between
 * the neighbours of the nodes that lead to it.
 */
#include "warm_scrub.h"

#include "file.h"
#include "record.h"
#include "warm_item.h"
#include "warm_pages.h"
#include "warm_private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* In the order of a pass. */
enum { FREE, META, SEGMENTS, SYSTEM, USER, N_TREES };

struct level {
    unsigned char *page;
    size_t n;  /* Nodes */
    size_t at; /* Of a branch: the child that was gone to */
};

struct warm_scrub {
    struct warm *warm;
    struct warm_pages pages;
    char path[WARM_PATH_BYTES];
    char error_text[WARM_PATH_BYTES + 256];
    unsigned char *memory; /* A page for each level */
    struct level levels[WARM_PAGES_DEPTH_MAX];
    unsigned depth;       /* Of the tree under way */
    unsigned char *value; /* What lies on pages of its own */
    size_t value_size;
    struct warm_scrub_piece piece;

    unsigned tree;                           /* The place to which the pass has come, */
    unsigned char hand[TIERS_KEY_BYTES_MAX]; /* the last key that was looked at, */
    size_t hand_len;                         /* 0: none in this tree, */
    uint64_t digests;                        /* and the sum up to there, as of the last commit */
};

/* ---- Opening ---- */

/* Past the page cache, if the file system can do it. */
static int file_open_direct(struct warm_scrub *scrub)
{
    int fd = file_open(AT_FDCWD, scrub->path, O_RDONLY | O_DIRECT, 0);
    if (fd == -1 && errno != EINVAL) {
        return -1;
    }
    if (fd != -1 && file_read(fd, scrub->memory, scrub->pages.meta.page_bytes, 0) < 0 &&
        errno == EINVAL) {
        (void)close(fd);
        fd = -1;
    }
    return fd != -1 ? fd : file_open(AT_FDCWD, scrub->path, O_RDONLY, 0);
}

int warm_scrub_open(struct warm *warm, struct warm_scrub **ret_scrub)
{
    const char *directory = NULL;
    struct warm_scrub *scrub = calloc(1, sizeof *scrub);
    if (scrub == NULL) {
        return TIERS_NO_MEMORY;
    }
    size_t page_bytes = warm->page_bytes;
    scrub->memory = aligned_alloc(PAGE_MAX, WARM_PAGES_DEPTH_MAX * page_bytes);
    if (scrub->memory == NULL) {
        free(scrub);
        return TIERS_NO_MEMORY;
    }
    for (size_t i = 0; i < WARM_PAGES_DEPTH_MAX; i++) {
        scrub->levels[i].page = scrub->memory + i * page_bytes;
    }
    int rc = mdb_env_get_path(warm->env, &directory);
    assert(rc == 0); /* It fails for NULL arguments only. */
    (void)rc;
    snprintf(scrub->path, sizeof scrub->path, "%s/data.mdb", directory);
    scrub->pages = (struct warm_pages){.name = scrub->path,
                                       .meta.page_bytes = (uint32_t)page_bytes,
                                       .error_text = scrub->error_text,
                                       .error_text_size = sizeof scrub->error_text};
    scrub->pages.fd = file_open_direct(scrub);
    if (scrub->pages.fd == -1) {
        int error = warm_error(errno);
        free(scrub->memory);
        free(scrub);
        return error;
    }
    assert(warm->scrub == NULL);
    scrub->warm = warm;
    warm->scrub = scrub;
    *ret_scrub = scrub;
    return 0;
}

void warm_scrub_close(struct warm_scrub *scrub)
{
    if (scrub != NULL) {
        scrub->warm->scrub = NULL;
        (void)close(scrub->pages.fd);
        free(scrub->value);
        free(scrub->memory);
        free(scrub);
    }
}

const char *warm_scrub_error_text(const struct warm_scrub *scrub)
{
    return scrub->error_text;
}

/* ---- Keys ---- */

static int keys_compare(unsigned tree, const MDB_val *a, const MDB_val *b)
{
    if (tree == FREE) {
        uint64_t left = get(a->mv_data, 0, 8);
        uint64_t right = get(b->mv_data, 0, 8);
        return (left > right) - (left < right);
    }
    int order = memcmp(a->mv_data, b->mv_data, a->mv_size < b->mv_size ? a->mv_size : b->mv_size);
    return order != 0 ? order : (a->mv_size > b->mv_size) - (a->mv_size < b->mv_size);
}

static MDB_val hand_get(const struct warm_scrub *scrub)
{
    return (MDB_val){.mv_data = (void *)(uintptr_t)scrub->hand, .mv_size = scrub->hand_len};
}

bool warm_scrub_passed(const struct warm_scrub *scrub, enum tiers_space space, const void *key,
                       size_t key_len)
{
    unsigned tree = space == TIERS_SPACE_USER ? USER : SYSTEM;
    MDB_val hand = hand_get(scrub);
    MDB_val this = {.mv_data = (void *)(uintptr_t)key, .mv_size = key_len};
    return tree < scrub->tree ||
           (tree == scrub->tree && hand.mv_size > 0 && keys_compare(tree, &this, &hand) <= 0);
}

void warm_scrub_adjust(struct warm_scrub *scrub, uint64_t digests)
{
    scrub->digests += digests;
}

/* The key at or above which those of the page on this level must lie, or below which. False: there
 * is no such bound. */
static bool bound_get(const struct warm_scrub *scrub, unsigned level, bool upper, MDB_val *ret_key)
{
    while (level-- > 0) {
        const struct level *parent = &scrub->levels[level];
        size_t i = parent->at + (upper ? 1 : 0);
        if (i > 0 && i < parent->n) {
            *ret_key = warm_page_node(&scrub->pages, parent->page, i, true).key;
            return true;
        }
    }
    return false;
}

/* The first key of a branch means nothing. */
static int keys_check(struct warm_scrub *scrub, unsigned level, uint64_t number, bool branch)
{
    const struct level *at = &scrub->levels[level];
    MDB_val last;
    MDB_val end;
    bool has_last = bound_get(scrub, level, false, &last);
    bool has_end = bound_get(scrub, level, true, &end);
    for (size_t i = branch ? 1 : 0; i < at->n; i++) {
        MDB_val key = warm_page_node(&scrub->pages, at->page, i, branch).key;
        bool may_equal = i == (branch ? 1 : 0); /* The bound itself */
        if (key.mv_size == 0 || (scrub->tree == FREE && key.mv_size != 8)) {
            return warm_pages_damaged(&scrub->pages, number, "has a key of impossible length");
        }
        int order = has_last ? keys_compare(scrub->tree, &key, &last) : 1;
        if (order < 0 || (order == 0 && !may_equal) ||
            (has_end && keys_compare(scrub->tree, &key, &end) >= 0)) {
            return warm_pages_damaged(&scrub->pages, number, "has keys out of order");
        }
        last = key;
        has_last = true;
    }
    return 0;
}

/* ---- What the nodes hold ---- */

/* As LMDB keeps them, each in a list by itself: their number, and they themselves, descending. */
static int free_list_check(struct warm_scrub *scrub, uint64_t number, const MDB_val *data)
{
    const unsigned char *bytes = data->mv_data;
    uint64_t n = data->mv_size >= 8 ? get(bytes, 0, 8) : 0;
    bool possible = data->mv_size >= 8 && n <= data->mv_size / 8 - 1;
    uint64_t below = scrub->pages.meta.last_page + 1;
    for (uint64_t i = 1; possible && i <= n; i++) {
        uint64_t page = get(bytes, 8 * i, 8);
        possible = page >= 2 && page < below;
        below = page;
    }
    return possible
               ? 0
               : warm_pages_damaged(&scrub->pages, number, "has an impossible list of free pages");
}

static int item_check(struct warm_scrub *scrub, uint64_t number, const MDB_val *key,
                      const MDB_val *data, uint64_t *digests)
{
    enum tiers_space space = scrub->tree == USER ? TIERS_SPACE_USER : TIERS_SPACE_SYSTEM;
    struct warm_item item;
    if (warm_item_decode(key, data, &item) != 0) {
        return warm_pages_damaged(&scrub->pages, number, "has an item that fails its check");
    }
    *digests += item.digest;
    if (!item.cold &&
        record_digest(space, key->mv_data, key->mv_size, item.value, item.value_len, &item.meta) !=
            item.digest &&
        scrub->piece.values_damaged++ == 0) {
        scrub->piece.damaged_revision = item.meta.mod_revision;
    }
    return 0;
}

static int content_check(struct warm_scrub *scrub, uint64_t number, const MDB_val *key,
                         const MDB_val *data, uint64_t *digests)
{
    struct warm_segment_row row;
    switch (scrub->tree) {
    case FREE:
        return free_list_check(scrub, number, data);
    case SEGMENTS:
        return warm_segment_row_decode(key, data, &row) == 0
                   ? 0
                   : warm_pages_damaged(&scrub->pages, number, "has a row that fails its check");
    case SYSTEM:
    case USER:
        return item_check(scrub, number, key, data, digests);
    default:
        return 0;
    }
}

static int value_reserve(struct warm_scrub *scrub, size_t bytes)
{
    if (bytes > scrub->value_size) {
        size_t size = (bytes + PAGE_MAX - 1) / PAGE_MAX * PAGE_MAX;
        unsigned char *value = aligned_alloc(PAGE_MAX, size);
        if (value == NULL) {
            return TIERS_NO_MEMORY;
        }
        free(scrub->value);
        scrub->value = value;
        scrub->value_size = size;
    }
    return 0;
}

/* Reads what lies on pages of its own. */
static int elsewhere_read(struct warm_scrub *scrub, uint64_t number, const struct warm_node *node,
                          MDB_val *ret_data)
{
    struct warm_pages *pages = &scrub->pages;
    uint32_t page_bytes = pages->meta.page_bytes;
    uint64_t first = get(node->data, 0, 8);
    uint64_t n = (PAGE_HEADER_BYTES - 1 + (uint64_t)node->data_len) / page_bytes + 1;
    uint64_t last_page = pages->meta.last_page;
    size_t len_max = TIERS_VALUE_BYTES_MAX + WARM_ITEM_OVERHEAD_BYTES_MAX;
    if ((scrub->tree != FREE && node->data_len > len_max) || n > last_page || first < 2 ||
        first > last_page + 1 - n) {
        return warm_pages_damaged(pages, number, "refers to pages that cannot be");
    }
    int error = value_reserve(scrub, n * page_bytes);
    if (error == 0) {
        error = warm_page_read(pages, first, PAGE_OVERFLOW, scrub->value);
    }
    if (error) {
        return error;
    }
    uint64_t n_there = get(scrub->value, PAGE_LOWER_AT, 4);
    if (n_there < n || n_there > last_page + 1 - first) {
        return warm_pages_damaged(pages, first, "begins a value of another length");
    }
    *ret_data = (MDB_val){.mv_size = node->data_len, .mv_data = scrub->value + PAGE_HEADER_BYTES};
    return n == 1 ? 0
                  : warm_pages_read(pages, scrub->value + page_bytes, (n - 1) * page_bytes,
                                    (first + 1) * page_bytes);
}

static int node_check(struct warm_scrub *scrub, uint64_t number, const struct warm_node *node,
                      uint64_t *digests)
{
    MDB_val data = {.mv_size = node->data_len, .mv_data = (void *)(uintptr_t)node->data};
    int error = 0;
    if (node->flags == NODE_ELSEWHERE) {
        error = elsewhere_read(scrub, number, node, &data);
    } else if (node->flags != 0) {
        error = warm_pages_damaged(&scrub->pages, number, "has a node of kind %u", node->flags);
    }
    return error != 0 ? error : content_check(scrub, number, &node->key, &data, digests);
}

/* Looks at what lies behind the hand, and moves it; values may make that more than one piece. Of
 * what fails nothing is added up. */
static int leaf_check(struct warm_scrub *scrub, uint64_t bytes)
{
    const struct level *leaf = &scrub->levels[scrub->depth - 1];
    uint64_t number = get(leaf->page, 0, 8);
    uint64_t digests = 0;
    MDB_val hand = hand_get(scrub);
    MDB_val last = {0};
    for (size_t i = 0; i < leaf->n; i++) {
        struct warm_node node = warm_page_node(&scrub->pages, leaf->page, i, false);
        if (hand.mv_size > 0 && keys_compare(scrub->tree, &node.key, &hand) <= 0) {
            continue;
        }
        int error = node_check(scrub, number, &node, &digests);
        if (error) {
            return error;
        }
        last = node.key;
        if (scrub->pages.bytes_read >= bytes) {
            break;
        }
    }
    if (last.mv_size > 0) {
        memcpy(scrub->hand, last.mv_data, last.mv_size);
        scrub->hand_len = last.mv_size;
        scrub->digests += digests;
    }
    return 0;
}

/* ---- Trees ---- */

static int page_enter(struct warm_scrub *scrub, unsigned level, uint64_t number)
{
    struct level *at = &scrub->levels[level];
    bool branch = level + 1 < scrub->depth;
    at->at = 0;
    int error = warm_page_read(&scrub->pages, number, branch ? PAGE_BRANCH : PAGE_LEAF, at->page);
    if (error == 0) {
        error = warm_page_check(&scrub->pages, number, at->page, branch, &at->n);
    }
    return error != 0 ? error : keys_check(scrub, level, number, branch);
}

/* From a page on this level, which was entered, down to a leaf: that of the hand, or the first. */
static int descend(struct warm_scrub *scrub, unsigned level, bool to_hand)
{
    MDB_val hand = hand_get(scrub);
    int error = 0;
    for (; error == 0 && level + 1 < scrub->depth; level++) {
        struct level *at = &scrub->levels[level];
        while (to_hand && hand.mv_size > 0 && at->at + 1 < at->n) {
            MDB_val next = warm_page_node(&scrub->pages, at->page, at->at + 1, true).key;
            if (keys_compare(scrub->tree, &next, &hand) > 0) {
                break;
            }
            at->at++;
        }
        error = page_enter(scrub, level + 1,
                           warm_page_node(&scrub->pages, at->page, at->at, true).page);
    }
    return error;
}

/* TIERS_NOT_FOUND: that was the last one. */
static int leaf_next(struct warm_scrub *scrub)
{
    for (unsigned level = scrub->depth - 1; level-- > 0;) {
        struct level *at = &scrub->levels[level];
        if (at->at + 1 < at->n) {
            at->at++;
            int error = page_enter(scrub, level + 1,
                                   warm_page_node(&scrub->pages, at->page, at->at, true).page);
            return error != 0 ? error : descend(scrub, level + 1, false);
        }
    }
    return TIERS_NOT_FOUND;
}

/* Goes on in one tree. TIERS_NOT_FOUND: to its end. */
static int tree_scrub(struct warm_scrub *scrub, const struct tree *tree, uint64_t bytes)
{
    int error = warm_pages_tree_check(&scrub->pages, tree, scrub->tree == FREE);
    if (error) {
        return error;
    }
    if (tree->depth == 0) {
        return TIERS_NOT_FOUND;
    }
    scrub->depth = tree->depth;
    error = page_enter(scrub, 0, tree->root);
    if (error == 0) {
        error = descend(scrub, 0, true);
    }
    while (error == 0 && (error = leaf_check(scrub, bytes)) == 0 &&
           scrub->pages.bytes_read < bytes) {
        error = leaf_next(scrub);
    }
    return error;
}

static int metas_read(struct warm_scrub *scrub)
{
    struct meta metas[2];
    uint32_t page_bytes = scrub->pages.meta.page_bytes;
    for (unsigned i = 0; i < 2; i++) {
        unsigned char *page = scrub->levels[i].page;
        int error = warm_pages_read(&scrub->pages, page, page_bytes, (uint64_t)i * page_bytes);
        if (error) {
            return error;
        }
        if (!meta_get(page, &metas[i]) || metas[i].page_bytes != page_bytes) {
            return warm_pages_damaged(&scrub->pages, i, "is no meta page");
        }
    }
    int error = warm_pages_meta_choose(&scrub->pages, metas);
    return error != 0 ? error : warm_pages_length_check(&scrub->pages);
}

/* The main tree names the others. It is one page: they are few. */
static int trees_find(struct warm_scrub *scrub, struct tree trees[N_TREES])
{
    static const char *const names[N_TREES] = {[META] = WARM_META_TREE,
                                               [SEGMENTS] = WARM_SEGMENTS_TREE,
                                               [SYSTEM] = WARM_SYSTEM_TREE,
                                               [USER] = WARM_USER_TREE};
    struct level *root = &scrub->levels[0];
    uint64_t number = scrub->pages.meta.main.root;
    unsigned found = 1;
    int error = warm_page_read(&scrub->pages, number, PAGE_LEAF, root->page);
    if (error == 0) {
        error = warm_page_check(&scrub->pages, number, root->page, false, &root->n);
    }
    if (error) {
        return error;
    }
    trees[FREE] = scrub->pages.meta.free;
    for (size_t i = 0; i < root->n; i++) {
        struct warm_node node = warm_page_node(&scrub->pages, root->page, i, false);
        for (unsigned tree = META; tree < N_TREES; tree++) {
            if (node.flags == NODE_TREE && node.data_len == TREE_BYTES &&
                node.key.mv_size == strlen(names[tree]) &&
                memcmp(node.key.mv_data, names[tree], node.key.mv_size) == 0) {
                trees[tree] = tree_get(node.data);
                found++;
            }
        }
    }
    return found == N_TREES
               ? 0
               : warm_pages_damaged(&scrub->pages, number, "does not name all the trees");
}

/* ---- The pass ---- */

static int pass_end(struct warm_scrub *scrub)
{
    struct tiers_position position;
    uint64_t digests = scrub->digests;
    warm_position(scrub->warm, &position);
    scrub->tree = 0;
    scrub->digests = 0;
    if (digests == position.state_hash) {
        return TIERS_NOT_FOUND;
    }
    snprintf(scrub->error_text, sizeof scrub->error_text,
             "%s is damaged: its keys do not add up to the state hash", scrub->path);
    return TIERS_CORRUPT;
}

int warm_scrub_step(struct warm_scrub *scrub, uint64_t bytes, struct warm_scrub_piece *ret_piece)
{
    struct tree trees[N_TREES];
    scrub->piece = (struct warm_scrub_piece){0};
    scrub->pages.bytes_read = 0;
    int error = metas_read(scrub);
    if (error == 0) {
        error = trees_find(scrub, trees);
    }
    while (error == 0 && scrub->pages.bytes_read < bytes) {
        error = tree_scrub(scrub, &trees[scrub->tree], bytes);
        if (error == TIERS_NOT_FOUND) {
            scrub->hand_len = 0;
            error = ++scrub->tree == N_TREES ? pass_end(scrub) : 0;
        }
    }
    scrub->piece.bytes_read = scrub->pages.bytes_read;
    *ret_piece = scrub->piece;
    return error;
}

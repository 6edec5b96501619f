/* Whether a look-up in the warm index would wait for the disk: see warm_resident in warm.h.
 *
 * LMDB has no answer to that, so this walks the tree as LMDB does, from the root that the snapshot
 * names, and asks the kernel about each page before it touches it (mincore). What was in memory
 * within the same epoch is not asked for again: branches answer without a system call, and so do
 * the leaves that everybody reads. Of a file that fits into memory the kernel is asked about blocks
 * of pages first: where all of a block is there its other pages need no call either.
 *
 * It only guesses: a page may go between the answer and its use, and one of a shape that is not
 * known counts as absent. The look-up itself is always LMDB's. */
#include "warm_layout.h"
#include "warm_private.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* LMDB's own limit of depth. */
#define DEPTH_MAX 32
/* Pages that the kernel is asked about at once. */
#define BLOCK_PAGES 64
/* In the word of a block: all of it is in memory. */
#define BLOCK_WHOLE ((uint64_t)1 << 16)

struct lookup {
    struct warm_residency *residency;
    unsigned char *map; /* Of LMDB's file */
    uint64_t map_pages;
    size_t page_bytes;
    const unsigned char *key;
    size_t key_len;
};

/* Remembered as page and epoch in one word: 48 bits are 2^60 bytes. */
static uint64_t remembered(const struct warm_residency *residency, uint64_t page)
{
    return page << 16 | residency->epoch;
}

/* Asks the kernel. At most BLOCK_PAGES; false also if it does not tell. */
static bool pages_are_there(const struct lookup *lookup, uint64_t page, size_t n)
{
    unsigned char states[BLOCK_PAGES];
    if (n > BLOCK_PAGES || page >= lookup->map_pages || n > lookup->map_pages - page ||
        mincore(lookup->map + page * lookup->page_bytes, n * lookup->page_bytes, states) != 0) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if ((states[i] & 1) == 0) {
            return false;
        }
    }
    return true;
}

/* Whether all pages of the page's block were in memory when this epoch first asked for one. */
static bool block_resident(const struct lookup *lookup, uint64_t page)
{
    uint64_t block = page / BLOCK_PAGES;
    uint64_t *slot = &lookup->residency->blocks[block % WARM_RESIDENCY_BLOCKS];
    uint64_t word = block << 17 | lookup->residency->epoch;
    if ((*slot & ~BLOCK_WHOLE) != word) {
        bool whole = pages_are_there(lookup, block * BLOCK_PAGES, BLOCK_PAGES);
        *slot = word | (whole ? BLOCK_WHOLE : 0);
    }
    return (*slot & BLOCK_WHOLE) != 0;
}

static bool page_resident(const struct lookup *lookup, uint64_t page)
{
    struct warm_residency *residency = lookup->residency;
    uint64_t *slot = &residency->pages[page % WARM_RESIDENCY_PAGES];
    if (*slot == remembered(residency, page) ||
        (residency->whole_blocks && block_resident(lookup, page))) {
        return true;
    }
    if (!pages_are_there(lookup, page, 1)) {
        return false;
    }
    *slot = remembered(residency, page);
    return true;
}

/* The node's bytes, or NULL if it is not inside the page. */
static const unsigned char *node_at(const struct lookup *lookup, const unsigned char *page,
                                    size_t i)
{
    size_t at = get(page, PAGE_HEADER_BYTES + 2 * i, 2);
    if (at > lookup->page_bytes - NODE_HEADER_BYTES ||
        get(page + at, 6, 2) > lookup->page_bytes - NODE_HEADER_BYTES - at) {
        return NULL;
    }
    return page + at;
}

/* Of the key against the node's: below, at or above 0. */
static int node_compare(const struct lookup *lookup, const unsigned char *node)
{
    size_t len = get(node, 6, 2);
    int order = memcmp(lookup->key, node + NODE_HEADER_BYTES,
                       lookup->key_len < len ? lookup->key_len : len);
    return order != 0 ? order : (lookup->key_len > len) - (lookup->key_len < len);
}

/* The last node whose key is not above the one that is looked up; the first of a branch is below
 * all. NULL: there is none, or the page is not what it should be. */
static const unsigned char *node_find(const struct lookup *lookup, const unsigned char *page,
                                      unsigned kind)
{
    size_t lower = get(page, PAGE_LOWER_AT, 2);
    if (get(page, PAGE_FLAGS_AT, 2) != kind || lower < PAGE_HEADER_BYTES ||
        lower > lookup->page_bytes) {
        return NULL;
    }
    size_t low = 0;
    size_t high = (lower - PAGE_HEADER_BYTES) / 2;
    const unsigned char *found = NULL;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const unsigned char *node = node_at(lookup, page, middle);
        if (node == NULL) {
            return NULL;
        }
        if ((kind == PAGE_BRANCH && middle == 0) || node_compare(lookup, node) >= 0) {
            found = node;
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return found;
}

/* The leaf is in memory: so is its value? */
static bool value_resident(const struct lookup *lookup, const unsigned char *page)
{
    const unsigned char *node = node_find(lookup, page, PAGE_LEAF);
    if (node == NULL || node_compare(lookup, node) != 0 ||
        (get(node, 4, 2) & NODE_ELSEWHERE) == 0) {
        return true;
    }
    const unsigned char *data = node + NODE_HEADER_BYTES + get(node, 6, 2);
    if (data + sizeof(uint64_t) > page + lookup->page_bytes) {
        return false;
    }
    size_t n = (PAGE_HEADER_BYTES + get(node, 0, 4) + lookup->page_bytes - 1) / lookup->page_bytes;
    /* A value of more than BLOCK_PAGES is copied elsewhere, anyway. */
    return pages_are_there(lookup, get(data, 0, 8), n);
}

/* The tree of a space as the snapshot has it. Its row lies in a page that knows its own number, and
 * so tells where the map begins. */
static bool tree_find(struct warm_read *read, enum tiers_space space, struct lookup *lookup,
                      struct tree *ret_tree)
{
    MDB_val row;
    if (!warm_read_tree_row(read, space, &row) || row.mv_size != TREE_BYTES) {
        return false;
    }
    unsigned char *bytes = row.mv_data;
    unsigned char *page = bytes - (uintptr_t)bytes % lookup->page_bytes;
    uint64_t number = get(page, 0, 8);
    if (get(page, PAGE_FLAGS_AT, 2) != PAGE_LEAF || number >= lookup->map_pages) {
        return false;
    }
    lookup->map = page - number * lookup->page_bytes;
    *ret_tree = tree_get(bytes);
    return true;
}

bool warm_resident(struct warm_read *read, struct warm_residency *residency, enum tiers_space space,
                   const void *key, size_t key_len)
{
    const struct warm *warm = warm_read_warm(read);
    struct lookup lookup = {.residency = residency,
                            .page_bytes = warm->page_bytes,
                            .map_pages = warm->map_bytes / warm->page_bytes,
                            .key = key,
                            .key_len = key_len};
    struct tree tree;
    /* What mincore counts in. */
    if (lookup.page_bytes != (size_t)getpagesize() || !tree_find(read, space, &lookup, &tree)) {
        return false;
    }
    if (tree.root == NO_PAGE) {
        return true;
    }
    uint64_t page = tree.root;
    for (unsigned depth = 1; depth <= DEPTH_MAX && page_resident(&lookup, page); depth++) {
        const unsigned char *bytes = lookup.map + page * lookup.page_bytes;
        if (depth == tree.depth) {
            return value_resident(&lookup, bytes);
        }
        const unsigned char *node = node_find(&lookup, bytes, PAGE_BRANCH);
        if (node == NULL) {
            return false;
        }
        page = get(node, 0, 6);
    }
    return false;
}

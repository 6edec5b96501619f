/* Reads LMDB's pages past LMDB and takes them apart, trusting nothing: for those who check them.
 *
 * Each finding is TIERS_CORRUPT and one sentence that names file and page. One thread.
 */
#ifndef TIERS_WARM_PAGES_H
#define TIERS_WARM_PAGES_H

#include "warm_layout.h"

#include <lmdb.h>

#define WARM_PAGES_DEPTH_MAX 32

struct warm_pages {
    int fd;
    const char *name;
    struct meta meta;    /* The newest; page_bytes first */
    uint64_t file_pages; /* Of the file as it is */
    uint64_t bytes_read;
    char *error_text; /* May be NULL */
    size_t error_text_size;
};

/* A node of a branch or leaf page; key and data point into it. */
struct warm_node {
    uint32_t data_len; /* Leaf */
    uint64_t page;     /* Branch */
    unsigned flags;
    MDB_val key;
    const unsigned char *data; /* Leaf: what lies in the page itself */
    size_t bytes;              /* That it takes */
};

/* Says what is wrong with the page: TIERS_CORRUPT. */
int warm_pages_damaged(struct warm_pages *pages, uint64_t page, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* 0, TIERS_IO, or TIERS_CORRUPT: the file ends before. */
int warm_pages_read(struct warm_pages *pages, void *bytes, size_t n, uint64_t offset);

/* Takes the newer of the two meta pages as pages->meta. Each commit writes the one that its number
 * names by its last bit, so that the two always are of consecutive ones: else the older would pass
 * for the newer. 0 or TIERS_CORRUPT. */
int warm_pages_meta_choose(struct warm_pages *pages, const struct meta metas[2]);

/* Whether the file may be as long as the meta page says, which some pages at its end may not be. 0,
 * TIERS_CORRUPT or TIERS_IO. Sets file_pages. */
int warm_pages_length_check(struct warm_pages *pages);

/* Reads one page, which must be of this kind. */
int warm_page_read(struct warm_pages *pages, uint64_t number, unsigned flags, unsigned char *bytes);
/* *ret_n: the number of its nodes, all of which are well-formed. 0 or TIERS_CORRUPT. */
int warm_page_check(struct warm_pages *pages, uint64_t number, const unsigned char *page,
                    bool branch, size_t *ret_n);
/* Of a page that was checked. */
struct warm_node warm_page_node(const struct warm_pages *pages, const unsigned char *page, size_t i,
                                bool branch);

/* Whether a tree can have such a root. `numbers`: its keys are numbers. 0 or TIERS_CORRUPT. */
int warm_pages_tree_check(struct warm_pages *pages, const struct tree *tree, bool numbers);

#endif

/* How LMDB 0.9 lays out its file, on machines with 64-bit little-endian words, and which trees are
 * in it: for those who read it without LMDB. */
#ifndef TIERS_WARM_LAYOUT_H
#define TIERS_WARM_LAYOUT_H

#include "little_endian.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LMDB_MAGIC   0xBEEFC0DEu
#define LMDB_VERSION 1
#define PAGE_MIN     512u
#define PAGE_MAX     65536u
#define NO_PAGE      UINT64_MAX

/* The trees that the main tree names. */
#define WARM_USER_TREE     "user"
#define WARM_SYSTEM_TREE   "system"
#define WARM_SEGMENTS_TREE "segments"
#define WARM_META_TREE     "meta"

/* A page: u64 number, u16 pad, u16 flags, u16 lower, u16 upper (or u32 pages); then u16 offsets of
 * nodes up to `lower`, and the nodes from `upper` to the end of the page. */
#define PAGE_FLAGS_AT     10
#define PAGE_LOWER_AT     12
#define PAGE_UPPER_AT     14
#define PAGE_HEADER_BYTES 16u
enum { PAGE_BRANCH = 1, PAGE_LEAF = 2, PAGE_OVERFLOW = 4, PAGE_META = 8 };

/* A node: u32 data bytes, u16 flags, u16 key bytes, key, data. In a branch the first six bytes are
 * a page number; the first key there means nothing. */
#define NODE_HEADER_BYTES 8u
enum { NODE_ELSEWHERE = 1, NODE_TREE = 2 };

/* Flags of a tree that change its order or what its nodes hold; numbers are the keys of the tree of
 * free pages, and in no other there is any. */
enum { TREE_FLAGS = 0x7f, TREE_NUMBERS = 0x08 };

/* A tree: u32 pad, u16 flags, u16 depth, u64 branch, leaf and overflow pages, entries, root. */
#define TREE_BYTES 48u
struct tree {
    uint16_t flags;
    uint16_t depth;
    uint64_t branch_pages;
    uint64_t leaf_pages;
    uint64_t overflow_pages;
    uint64_t entries;
    uint64_t root;
};

/* In a meta page, after the header: u32 magic, u32 version, u64 address, u64 map size, two trees
 * (the free pages, with the page size as its pad, and the main one), u64 last page, u64
 * transaction. */
#define META_TREES_AT 24u
#define META_BYTES    (META_TREES_AT + 2 * TREE_BYTES + 16)
struct meta {
    uint32_t page_bytes;
    struct tree free;
    struct tree main;
    uint64_t last_page;
    uint64_t transaction;
};

static inline uint64_t get(const unsigned char *bytes, size_t at, unsigned n)
{
    return little_endian_get(bytes + at, n);
}

static inline struct tree tree_get(const unsigned char *bytes)
{
    return (struct tree){
        .flags = (uint16_t)get(bytes, 4, 2),
        .depth = (uint16_t)get(bytes, 6, 2),
        .branch_pages = get(bytes, 8, 8),
        .leaf_pages = get(bytes, 16, 8),
        .overflow_pages = get(bytes, 24, 8),
        .entries = get(bytes, 32, 8),
        .root = get(bytes, 40, 8),
    };
}

/* False: no LMDB file of the version that is known. */
static inline bool meta_get(const unsigned char *page, struct meta *ret_meta)
{
    const unsigned char *bytes = page + PAGE_HEADER_BYTES;
    if (get(page, PAGE_FLAGS_AT, 2) != PAGE_META || get(bytes, 0, 4) != LMDB_MAGIC ||
        get(bytes, 4, 4) != LMDB_VERSION) {
        return false;
    }
    *ret_meta = (struct meta){
        .page_bytes = (uint32_t)get(bytes, META_TREES_AT, 4),
        .free = tree_get(bytes + META_TREES_AT),
        .main = tree_get(bytes + META_TREES_AT + TREE_BYTES),
        .last_page = get(bytes, META_TREES_AT + 2 * TREE_BYTES, 8),
        .transaction = get(bytes, META_TREES_AT + 2 * TREE_BYTES + 8, 8),
    };
    return true;
}

#endif

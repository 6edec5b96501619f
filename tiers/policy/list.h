/* A doubly linked list of policy nodes with its size: the queue that every policy is built from.
 * Head is where entries arrive, tail where they leave. Pure; the caller's thread. */
#ifndef TIERS_POLICY_LIST_H
#define TIERS_POLICY_LIST_H

#include "tiers/policy.h"

struct policy_list {
    struct policy_node *head;
    struct policy_node *tail;
    uint64_t size; /* Sum of the nodes' sizes */
};

/* In a list, `previous` points towards the head and `next` towards the tail. */
static inline void policy_list_push(struct policy_list *list, struct policy_node *node)
{
    node->previous = NULL;
    node->next = list->head;
    if (list->head != NULL)
        list->head->previous = node;
    else
        list->tail = node;
    list->head = node;
    list->size += node->size;
}

static inline void policy_list_remove(struct policy_list *list, struct policy_node *node)
{
    if (node->previous != NULL)
        node->previous->next = node->next;
    else
        list->head = node->next;
    if (node->next != NULL)
        node->next->previous = node->previous;
    else
        list->tail = node->previous;
    node->next = node->previous = NULL;
    list->size -= node->size;
}

static inline void policy_list_to_head(struct policy_list *list, struct policy_node *node)
{
    if (list->head == node)
        return;
    policy_list_remove(list, node);
    policy_list_push(list, node);
}

#endif

/*
 * Looking at cursors: CURSOR_GET and CURSOR_LIST, answered by the node that is asked, from what it
 * has applied.
 *
 *        at_least is not applied yet
 *      +----------------------------> WAITING --applied--> LOOKING (a thread of the pool) -->
 * answered |                                 |
 *      +--> LOOKING                      +--deadline: TIMEOUT
 */
#ifndef QUORLOG_SERVER_CURSOR_VIEW_H
#define QUORLOG_SERVER_CURSOR_VIEW_H

struct front;
struct cursor_view;

struct cursor_views {
    struct cursor_view *waiting; /* looked at when the group publishes */
};

/* The group published: those that wait for it go on. */
void cursor_views_published(struct front *front);

#endif

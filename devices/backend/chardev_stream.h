/*
 * The moving of bytes, for chardev.c only.
 */
#ifndef DEVICES_BACKEND_CHARDEV_STREAM_H
#define DEVICES_BACKEND_CHARDEV_STREAM_H

#include <stdbool.h>

struct chardev;

/* The timer's callback. */
void chardev_tick(void *opaque);
/* Tries to write what is queued, and to take what the client holds back; true if some is left in
 * the queue that may go out later. */
bool chardev_flush(struct chardev *chr);

#endif

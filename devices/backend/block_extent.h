/*
 * A range of a disk that lies in one piece in a file, so that an engine can have the kernel
 * transfer it without asking the format again. The extent must stay where it is until it is given
 * back.
 */
#ifndef DEVICES_BACKEND_BLOCK_EXTENT_H
#define DEVICES_BACKEND_BLOCK_EXTENT_H

#include <stdbool.h>
#include <stdint.h>

struct block_extent {
	uint64_t offset; /* in the file */
	/* The format's own: */
	uint64_t first, last;
	bool exclusive;
	struct block_extent *prev, *next;
};

#endif

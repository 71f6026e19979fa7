/*
 * Which memory slots are taken: see mapping.h.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "vmm/mapping.h"

struct mappings {
	const struct mapping_ops *ops;
	void *opaque;
	unsigned first, count;
	pthread_mutex_t lock; /* guards used[] and the hypervisor's slots; a leaf */
	bool used[];
};

struct mappings *mappings_create(const struct mapping_ops *ops, void *opaque, unsigned first,
				 unsigned count)
{
	struct mappings *m = calloc(1, sizeof(*m) + count * sizeof(m->used[0]));

	if (!m)
		return NULL;
	m->ops = ops;
	m->opaque = opaque;
	m->first = first;
	m->count = count;
	pthread_mutex_init(&m->lock, NULL);
	return m;
}

void mappings_destroy(struct mappings *m)
{
	if (!m)
		return;
	pthread_mutex_destroy(&m->lock);
	free(m);
}

int mapping_add(struct mappings *m, uint64_t gpa, uint64_t size, void *host)
{
	int handle = -ENOSPC;

	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < m->count && handle == -ENOSPC; i++)
		if (!m->used[i])
			handle = (int)i;
	if (handle >= 0) {
		int err = m->ops->set(m->opaque, m->first + (unsigned)handle, gpa, size, host);

		if (err < 0)
			handle = err;
		else
			m->used[handle] = true;
	}
	pthread_mutex_unlock(&m->lock);
	return handle;
}

void mapping_remove(struct mappings *m, int handle)
{
	if (handle < 0 || (unsigned)handle >= m->count)
		return;
	pthread_mutex_lock(&m->lock);
	if (m->used[handle]) {
		m->ops->set(m->opaque, m->first + (unsigned)handle, 0, 0, NULL);
		m->used[handle] = false;
	}
	pthread_mutex_unlock(&m->lock);
}

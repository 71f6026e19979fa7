/*
 * Posted writes: those of registers that only hold parameters (struct bus_ops.posted). KVM puts
 * them into a ring that all vCPUs of the VM share ("coalesced MMIO", for ports too) and lets the
 * guest go on; they are done when any vCPU exits, before what it exits for. A full ring makes KVM
 * exit as ever.
 */
#include <string.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "vmm/vcpu.h"

void vcpu_posted_init(struct vcpu_set *set)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (!set->kvm->posted_offset)
		return;
	set->posted = (void *)((uint8_t *)set->vcpu[0].run + set->kvm->posted_offset);
	set->posted_places =
		(uint32_t)((page - sizeof(*set->posted)) / sizeof(set->posted->coalesced_mmio[0]));
}

static void serve_one(struct vcpu_set *set, const struct kvm_coalesced_mmio *write)
{
	struct bus *bus = write->pio ? set->pio : set->mmio;
	uint64_t value = 0;

	memcpy(&value, write->data, write->len < sizeof(value) ? write->len : sizeof(value));
	bus_write_posted(bus, write->phys_addr, write->len, value);
}

/*
 * A place in the ring is free again only after its write is done: a vCPU that finds the ring empty
 * knows that all of its own writes are behind it, and one that does not waits for whoever is doing
 * them.
 */
void vcpu_posted_serve(struct vcpu_set *set)
{
	struct kvm_coalesced_mmio_ring *ring = set->posted;
	uint32_t first;

	if (!ring || __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE) ==
			     __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE))
		return;
	pthread_mutex_lock(&set->posted_lock);
	while ((first = ring->first) != __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE)) {
		serve_one(set, &ring->coalesced_mmio[first]);
		__atomic_store_n(&ring->first, (first + 1) % set->posted_places, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&set->posted_lock);
}

/*
 * /dev/kvm: opening it, one VM, and the ioctls that are about the VM as a whole. With vcpu.* and
 * x86_64/ the only code that includes <linux/kvm.h>.
 */
#ifndef VMM_KVM_H
#define VMM_KVM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/error.h"
#include "vmm/mapping.h"
#include "vmm/memory.h"

struct kvm {
	int system;		  /* /dev/kvm */
	int vm;			  /* the VM */
	size_t run_size;	  /* bytes to map of each vCPU's fd */
	struct kvm_cpuid2 *cpuid; /* what it supports; x86_64/cpuid.c asks once and keeps it here */
	struct bus *pio, *mmio;	  /* of whose work KVM does a part */
	size_t posted_offset;	  /* of a vCPU's mapping: where posted writes wait; 0: none do */
	int vfio;		  /* KVM's VFIO device, -1 until one is needed */
	bool without_lapic;	  /* local APICs are not KVM's; set before the first vCPU */
};

/* -ENOENT, -EACCES, -ENODEV …: e says what to do about it. */
int kvm_open(struct kvm *kvm, struct error *e);
void kvm_close(struct kvm *kvm);
/* ioctl(2) on the VM or on /dev/kvm, restarted on EINTR; a result ≥ 0 or -errno. */
int kvm_vm_ioctl(const struct kvm *kvm, unsigned long request, void *arg);
int kvm_system_ioctl(const struct kvm *kvm, unsigned long request, void *arg);
/* What KVM_CHECK_EXTENSION says of a capability, 0 if unknown. */
int kvm_capability(const struct kvm *kvm, long capability);

/* Every region becomes a memory slot. */
int kvm_add_memory(const struct kvm *kvm, const struct guest_memory *memory, struct error *e);

/* Memory other than RAM goes into the slots behind it; made once, freed by the caller. */
struct mappings *kvm_create_mappings(struct kvm *kvm, struct error *e);

/* Tells KVM that a VFIO group (or device, where it has a file of its own) is the VM's, or was. */
int kvm_vfio_file(struct kvm *kvm, int fd, bool add);

/*
 * From now on the kernel holds back what writes may be posted on these two buses and, if asked to,
 * serves their kicks by ioeventfds. Before the vCPUs are made.
 */
void kvm_attach_buses(struct kvm *kvm, struct bus *pio, struct bus *mmio, bool kicks);

#endif

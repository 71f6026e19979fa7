/*
 * The doors of a test guest. PVH (Xen's x86 HVM direct boot ABI): 32-bit, no paging, ebx = start
 * info. Linux's 64-bit entry (Documentation/arch/x86/boot.rst): long mode, rsi = boot_params.
 * Application processors: real mode at a copied page below 1 MiB, by a startup IPI. All three end in
 * long mode on our own tables, each on its own stack, and call start_boot_cpu() or start_ap().
 *
 * The tables are made by the assembler, because on a KVM that emulates ring 0 every instruction
 * counts.
 */
#define CODE32 0x08
#define CODE64 0x10
#define DATA   0x18

#define CR0_PE	 0x00000001
#define CR0_PG	 0x80000000
#define CR4_PAE	 0x20
#define EFER	 0xc0000080
#define EFER_LME 0x100

#define AP_PAGE	     0x10000	/* smp.h */
#define STACK_SIZE   0x4000
#define AP_STACK     0x2000

#define XEN_ELFNOTE_PHYS32_ENTRY 18

	.section .note.Xen, "a", @note
	.balign 4
	.long 4, 4, XEN_ELFNOTE_PHYS32_ENTRY
	.asciz "Xen"
	.long pvh_start

	.text
	.code32
	.globl pvh_start
pvh_start:
	cld
	movl %ebx, boot_info
	movl $1, boot_by_pvh
	lgdt gdt_pointer
	movl $CR4_PAE, %eax
	movl %eax, %cr4
	movl $pml4, %eax
	movl %eax, %cr3
	movl $EFER, %ecx
	rdmsr
	orl $EFER_LME, %eax
	wrmsr
	movl %cr0, %eax
	orl $CR0_PG, %eax
	movl %eax, %cr0
	ljmp $CODE64, $common

	.code64
	.globl linux64_start
linux64_start:
	cld
	movq %rsi, boot_info
	lgdt gdt_pointer
	movq $pml4, %rax
	movq %rax, %cr3
	/* The loader's GDT has the same selectors, as the protocol demands: cs may stay. */
common:
	movl $DATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movq $boot_stack + STACK_SIZE, %rsp
	xorl %ebp, %ebp
	call start_boot_cpu
1:	hlt
	jmp 1b

/* ---- application processors ------------------------------------------------------------------ */

/* Copied to AP_PAGE; cs = AP_PAGE >> 4, so that offsets are from ap_page. */
	.code16
	.globl ap_page, ap_page_size
ap_page:
	cli
	cld
	movw %cs, %ax
	movw %ax, %ds
	lgdtl ap_gdt_pointer - ap_page
	movl $CR4_PAE, %eax
	movl %eax, %cr4
	movl $pml4, %eax
	movl %eax, %cr3
	movl $EFER, %ecx
	rdmsr
	orl $EFER_LME, %eax
	wrmsr
	movl $(CR0_PG | CR0_PE), %eax
	movl %eax, %cr0
	ljmpl $CODE64, $ap_long
	.balign 8
ap_gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
ap_page_end:

	.code64
ap_long:
	movl $DATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	/* The how-manieth to come: the first gets stack 0. */
	movl $1, %edi
	lock xaddl %edi, ap_arrived
	movl %edi, %eax
	incl %eax
	imulq $AP_STACK, %rax, %rax
	leaq ap_stacks(%rax), %rsp
	xorl %ebp, %ebp
	call start_ap
1:	hlt
	jmp 1b

/* ---- tables ---------------------------------------------------------------------------------- */

	.data
	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff	/* CODE32 */
	.quad 0x00af9b000000ffff	/* CODE64 */
	.quad 0x00cf93000000ffff	/* DATA */
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt

/* The first 4 GiB, one to one, in 2 MiB pages. More is mapped by map_physical(). */
	.balign 4096
	.globl pml4
pml4:
	.quad pdpt + 3
	.fill 511, 8, 0
pdpt:
	.quad pd + 0x0003, pd + 0x1003, pd + 0x2003, pd + 0x3003
	.fill 508, 8, 0
pd:
	.set page, 0
	.rept 2048
	.quad page + 0x83
	.set page, page + 0x200000
	.endr

	.balign 4
ap_page_size:
	.long ap_page_end - ap_page

	.globl boot_info, boot_by_pvh, ap_arrived
	.balign 8
boot_info:   .quad 0
boot_by_pvh: .long 0
ap_arrived:  .long 0

	.bss
	.balign 16
boot_stack:
	.skip STACK_SIZE
ap_stacks:
	.skip AP_STACK * 63

	.section .note.GNU-stack, "", @progbits

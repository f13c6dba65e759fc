package ondisk

// Accounts are how much the tree below a directory takes. The directory, the
// account's root, has the sums in fields that others keep without a meaning;
// each inode below says which account it is charged to, and how much:
//
//	              root of an account            inode in an account
//	Charge        bytes of all below            its own bytes
//	ChargeInodes  inodes of all below, itself   0
//	Account       account it lies in, 0 none    number of the root
//	AccountGen    number of the count           that of the count that has it
//	AccountIn     that of the count that has    0
//	              it, of Account
//
// An inode counts if its root is one, and both have the same AccountGen: a new
// number makes all sums of an account void at once. An account in another is
// part of its sums if AccountIn is that one's AccountGen. The bytes of an inode are the sizes on media of its data
// blocks, InodeSize for inline content that is not empty.

// Bits of InodeMeta.AccountFlags.
const (
	AccountRoot     = 1 << iota // the directory has an account of its own
	AccountCounting             // its inodes are being entered: the sums are too low
	AccountLeaving              // it is being given up: its inodes go to the one it lies in
)

// OwnsAccount reports whether the inode is the root of an account.
func (m *InodeMeta) OwnsAccount() bool {
	return m.AccountFlags&AccountRoot != 0 && m.Type == ObjDir
}

// ChargedTo is the account that counts the inode, 0 if none does.
func (m *InodeMeta) ChargedTo() uint64 {
	if m.OwnsAccount() {
		return m.Inum
	}
	return m.Account
}

// InlineCharge is what an inode with inline content is charged.
func (m *InodeMeta) InlineCharge() uint64 {
	if m.Size == 0 {
		return 0
	}
	return InodeSize
}

/* The C program that the library without std is linked to, and run: 0 if all came out as it should. */
unsigned svcplane_no_std(void);

/* The compiler's own libraries are built to unwind, and name what std has for it. Nothing here unwinds. */
void rust_eh_personality(void) {}

int main(void) { return svcplane_no_std() == 0 ? 0 : 1; }

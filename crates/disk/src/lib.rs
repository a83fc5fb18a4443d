//! The Disk seam: everything that touches files goes through it, and the real disk stands behind it.

"""Model data in every form that CreateModel takes (data-plane.md section 7.3), made into folders."""

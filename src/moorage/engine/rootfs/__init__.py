"""Images unpacked into folders, and run without a container engine (the image engine ``sandbox``)."""

"""What only TensorFlow Serving's own binary can show: started as Garrison starts it, asked, and reported.

    servers     starts the binary, in a container of an image or as a process
    questions   asks one thing each, and says what was seen
    report      what was expected beside what was seen

The tests' stand-in is not upstream's program: what the documentation says of the real one is run here.
"""

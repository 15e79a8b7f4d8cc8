"""`python -m service` is `campaign-gateway`."""

from service.cli import main

if __name__ == "__main__":
    main()

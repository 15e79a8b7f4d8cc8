"""`python -m campaign_gateway` is `campaign-gateway`."""

from campaign_gateway.cli import main

if __name__ == "__main__":
    main()

namespace Backend.Toolkit.Webhooks.Ed25519.Tests;

public sealed class KeyTests
{
    private static readonly byte[] Seed = Convert.FromHexString("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    private static readonly byte[] Public = Convert.FromHexString("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");

    public static TheoryData<string> Bad =>
    [
        "", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", "WHPK_AAAA", "whpk_", "whsk_", "whpk_!", "whpk_" + Convert.ToBase64String(new byte[31]), "whpk_" + Convert.ToBase64String(new byte[33]), "whpk_" + Convert.ToBase64String(new byte[64]),
        "whsk_" + Convert.ToBase64String(new byte[31]), "whsk_" + Convert.ToBase64String(new byte[48]), "whsk_" + Convert.ToBase64String([.. Seed, .. new byte[32]]), "whsk_" + Convert.ToBase64String(new byte[4000]),
        "whpk_" + Convert.ToBase64String(Public) + "\n",
    ];

    [Theory]
    [MemberData(nameof(Bad))]
    public void What_is_no_key_is_told_without_telling_it(string text)
    {
        Action parse = () => Ed25519WebhookKey.Parse(text);

        string message = parse.Should().Throw<FormatException>().Which.Message;
        _ = text.Length > 10 && message.Should().NotContain(text[5..]) is null;
    }

    [Fact]
    public void A_private_key_may_have_its_public_key_behind_it()
    {
        Ed25519WebhookKey longer = Ed25519WebhookKey.Parse("whsk_" + Convert.ToBase64String([.. Seed, .. Public]));

        longer.CanSign.Should().BeTrue();
        longer.PublicText.Should().Be("whpk_" + Convert.ToBase64String(Public));
    }

    [Fact]
    public void A_new_pair_belongs_together()
    {
        (string privateKey, string publicKey) = Ed25519WebhookKey.NewPair();
        byte[] signature = new byte[64];

        Ed25519WebhookKey.Parse(privateKey).Sign("message"u8, signature);

        Ed25519WebhookKey.Parse(publicKey).Verify("message"u8, signature).Should().BeTrue();
        Ed25519WebhookKey.Parse(Ed25519WebhookKey.NewPair().PublicKey).Verify("message"u8, signature).Should().BeFalse();
    }

    [Fact]
    public void A_public_key_does_not_sign_and_a_short_signature_is_wrong()
    {
        Ed25519WebhookKey key = Ed25519WebhookKey.Parse(Ed25519WebhookKey.NewPair().PublicKey);
        Action sign = () => key.Sign("message"u8, new byte[64]);

        sign.Should().Throw<InvalidOperationException>();
        key.CanSign.Should().BeFalse();
        key.Verify("message"u8, new byte[63]).Should().BeFalse();
    }

    [Fact]
    public void Options_want_the_half_that_they_need()
    {
        (string privateKey, string publicKey) = Ed25519WebhookKey.NewPair();
        var signer = new WebhookSignerOptions { Name = "s" };
        var verifier = new WebhookVerifierOptions { Name = "v" };
        signer.UseEd25519();
        verifier.UseEd25519();
        foreach (string secret in new[] { privateKey, publicKey, "whpk_AAAA" })
        {
            signer.Keys.Add(new WebhookKey(secret));
            verifier.Keys.Add(new WebhookKey(secret));
        }

        signer.Problems().Should().Equal(
            "s: Keys[1] Secret must be whsk_ to sign, but is whpk_, which only verifies.",
            "s: Keys[2] Secret cannot be read: An Ed25519 key is 32 bytes of base64 (a private one may be 64) after whpk_ or whsk_.");
        verifier.Problems().Should().Equal(
            "v: Keys[0] Secret must be whpk_, but is whsk_: who only verifies must not be able to sign.",
            "v: Keys[2] Secret cannot be read: An Ed25519 key is 32 bytes of base64 (a private one may be 64) after whpk_ or whsk_.");
    }

    [Fact]
    public void More_than_four_of_them_are_too_many()
    {
        var options = new WebhookVerifierOptions { Name = "v" };
        options.UseEd25519();
        for (int i = 0; i < 5; i++)
        {
            options.Keys.Add(new WebhookKey(Ed25519WebhookKey.NewPair().PublicKey));
        }

        options.Problems().Should().Equal("v: Keys must be at most 4 keys of whpk_ or whsk_, but is 5.");
    }
}

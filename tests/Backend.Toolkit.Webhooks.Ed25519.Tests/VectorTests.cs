using NSec.Cryptography;

namespace Backend.Toolkit.Webhooks.Ed25519.Tests;

/// <summary>RFC 8032 section 7.1, and the vectors of Standard Webhooks.</summary>
public sealed class VectorTests
{
    public static TheoryData<string, string, string, string> Published => new()
    {
        {
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        },
        {
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        },
        {
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        },
        {
            "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42", "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"
        },
    };

    [Theory]
    [MemberData(nameof(Published))]
    public void A_vector_of_the_RFC_is_signed_and_verified(string seed, string publicKey, string message, string signature)
    {
        Ed25519WebhookKey signer = Ed25519WebhookKey.Parse("whsk_" + Convert.ToBase64String(Convert.FromHexString(seed)));
        Ed25519WebhookKey verifier = Ed25519WebhookKey.Parse("whpk_" + Convert.ToBase64String(Convert.FromHexString(publicKey)));
        byte[] bytes = Convert.FromHexString(message), made = new byte[64];

        signer.Sign(bytes, made);

        Convert.ToHexStringLower(made).Should().Be(signature);
        signer.PublicText.Should().Be(verifier.PublicText);
        verifier.Verify(bytes, made).Should().BeTrue();
        verifier.Verify([.. bytes, 0], made).Should().BeFalse();
        made[5] ^= 1;
        verifier.Verify(bytes, made).Should().BeFalse();
    }

    /// <summary>Adding the group's order to the scalar makes another signature of the same message, which RFC 8032 section 5.1.7 refuses.</summary>
    [Fact]
    public void A_scalar_that_is_not_reduced_is_refused()
    {
        Ed25519WebhookKey key = Ed25519WebhookKey.Parse("whpk_" + Convert.ToBase64String(Convert.FromHexString("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")));
        byte[] order = Convert.FromHexString("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        byte[] signature = Convert.FromHexString("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b");
        for (int i = 0, carry = 0; i < 32; i++)
        {
            carry += signature[32 + i] + order[i];
            signature[32 + i] = (byte)carry;
            carry >>= 8;
        }

        bool valid = key.Verify([], signature);

        valid.Should().BeFalse();
    }

    [Fact]
    public void A_key_of_small_order_verifies_nothing()
    {
        byte[] identity = [1, .. new byte[31]];
        Ed25519WebhookKey key = Ed25519WebhookKey.Parse("whpk_" + Convert.ToBase64String(identity));

        bool valid = key.Verify("anything"u8, [.. identity, .. new byte[32]]);

        valid.Should().BeFalse("R = identity and S = 0 fits every message under such a key");
    }

    [Fact]
    public void The_vector_of_Standard_Webhooks_is_signed()
    {
        var options = new WebhookSignerOptions();
        options.UseEd25519();
        options.Keys.Add(new WebhookKey("whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk="));
        var headers = new Headers();

        new WebhookSigner(options).Sign(headers, Headers.Write, "msg_p5jXN8AQM9LWM0D4loKWxJek", """{"test": 2432232314}"""u8, DateTimeOffset.FromUnixTimeSeconds(1614265330));

        headers["webhook-signature"].Should().Be("v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==");
    }

    [Fact]
    public void The_size_of_a_signature_is_the_one_that_the_leaf_knows()
    {
        int size = SignatureAlgorithm.Ed25519.SignatureSize;

        size.Should().Be(WebhookPublicKey.SignatureBytes);
    }
}

using System.Buffers;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Webhooks.Tests;

public sealed class VerifierTests
{
    private const string Other = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

    private readonly FakeTimeProvider _time = Sample.Time();
    private readonly string _valid = "v1," + Sample.Mac(Sample.Secret, Sample.Id, Sample.Seconds, Sample.Body);
    private readonly string _wrong = "v1," + Sample.Mac(Other, Sample.Id, Sample.Seconds, Sample.Body);

    public static TheoryData<string> Schemes => [.. Sample.Schemes.Select(scheme => scheme.Name)];

    private static WebhookScheme Named(string scheme) => Sample.Schemes.Single(one => one.Name == scheme);

    private WebhookVerification Verify(Headers headers) => Sample.Verifier(WebhookScheme.StandardWebhooks, _time, Sample.Secret).Verify(headers, Sample.Body);

    [Fact]
    public void A_list_is_accepted_exactly_when_it_holds_a_valid_signature()
    {
        WebhookVerifier verifier = Sample.Verifier(WebhookScheme.StandardWebhooks, _time, Sample.Secret);
        string[] kinds = [_valid, _wrong, "v1,not base64"[..8] + "!", "v2," + _valid[3..]];
        var offenders = new List<string>();
        int lists = 0;

        for (int length = 1; length <= 6; length++)
        {
            for (int code = 0; code < 1 << (2 * length); code++)
            {
                int[] list = [.. Enumerable.Range(0, length).Select(i => (code >> (2 * i)) & 3)];
                WebhookVerification result = verifier.Verify(Sample.Standard(string.Join(' ', list.Select(kind => kinds[kind]))), Sample.Body);
                WebhookVerification expected = list.Contains(0) ? WebhookVerification.Valid : list.Contains(1) ? WebhookVerification.BadSignature : WebhookVerification.Malformed;
                lists++;
                if (result != expected)
                {
                    offenders.Add($"{string.Join(' ', list)}: {result}");
                }
            }
        }

        lists.Should().Be(4 + 16 + 64 + 256 + 1024 + 4096);
        offenders.Should().BeEmpty();
    }

    [Fact]
    public void A_list_of_Stripe_is_accepted_exactly_when_it_holds_a_valid_signature_wherever_the_time_stands()
    {
        const string secret = "whsec_a_secret_of_stripe";
        WebhookVerifier verifier = Sample.Verifier(WebhookScheme.Stripe, _time, secret);
        string valid = "v1=" + Convert.ToHexStringLower(HMACSHA256.HashData(Encoding.UTF8.GetBytes(secret), (byte[])[.. "1614265330."u8, .. Sample.Body]));
        string[] kinds = [valid, "v1=" + new string('0', 64), "v1=xyz", "v0=" + valid[3..], "t=1614265330"];
        var offenders = new List<string>();

        for (int code = 0; code < 5 * 5 * 5 * 5 * 5; code++)
        {
            int[] list = [.. Enumerable.Range(0, 5).Select(i => code / (int)Math.Pow(5, i) % 5)];
            WebhookVerification result = verifier.Verify(new Headers { ["Stripe-Signature"] = string.Join(',', list.Select(kind => kinds[kind])) }, Sample.Body);
            if ((result == WebhookVerification.Valid) != (list.Contains(0) && list.Count(kind => kind == 4) == 1))
            {
                offenders.Add($"{string.Join(' ', list)}: {result}");
            }
        }

        offenders.Should().BeEmpty();
    }

    [Theory]
    [MemberData(nameof(Schemes))]
    public void What_is_signed_is_verified_whatever_the_bytes_and_the_segments(string scheme)
    {
        WebhookSigner signer = Sample.Signer(Named(scheme), _time, Sample.Secret);
        WebhookVerifier verifier = Sample.Verifier(Named(scheme), _time, Sample.Secret);
        byte[][] bodies = [[], [0xEF, 0xBB, 0xBF, (byte)'{', (byte)'}'], [0xFF, 0xFE, 0xC3, 0x28, 0], RandomNumberGenerator.GetBytes(100_000)];

        foreach (byte[] body in bodies)
        {
            Headers headers = signer.Signed(body);
            Headers segmented = [];
            signer.Sign(segmented, Headers.Write, Sample.Id, Sample.Segmented(body, 1000));

            segmented.Should().Equal(headers);
            verifier.Verify(headers, body).Should().Be(WebhookVerification.Valid);
            verifier.Verify(headers, Headers.Read, Sample.Segmented(body, 7)).Should().Be(WebhookVerification.Valid);
            verifier.Verify(headers, Headers.Read, new ReadOnlySequence<byte>(body)).Should().Be(WebhookVerification.Valid);
            verifier.Verify(headers, [.. body, 0]).Should().Be(WebhookVerification.BadSignature);
            verifier.Verify(headers, Headers.Read, Sample.Segmented([.. body, 0], 7)).Should().Be(WebhookVerification.BadSignature);
        }
    }

    [Theory]
    [MemberData(nameof(Schemes))]
    public void A_missing_or_empty_header_is_told(string scheme)
    {
        WebhookScheme described = Named(scheme);
        Headers headers = Sample.Signer(described, _time, Sample.Secret).Signed(Sample.Body);
        WebhookVerifier verifier = Sample.Verifier(described, _time, Sample.Secret);
        string[] needed = [.. new[] { described.SignatureHeader, described.TimestampHeader, described.SignedContent.Contains("{id}", StringComparison.Ordinal) ? described.IdHeader : null }.OfType<string>()];

        foreach (string name in needed)
        {
            string value = headers[name];
            headers.Remove(name);
            verifier.Verify(headers, Sample.Body).Should().Be(WebhookVerification.MissingHeader);
            headers[name] = "";
            verifier.Verify(headers, Sample.Body).Should().Be(WebhookVerification.MissingHeader);
            headers[name] = value;
        }

        verifier.Verify(headers, Sample.Body).Should().Be(WebhookVerification.Valid);
    }

    [Theory]
    [InlineData("")]
    [InlineData(" 1614265330")]
    [InlineData("1614265330 ")]
    [InlineData("+1614265330")]
    [InlineData("-1614265330")]
    [InlineData("1614265330.0")]
    [InlineData("1,614,265,330")]
    [InlineData("1614265330,1614265330")]
    [InlineData("0x6037")]
    [InlineData("1e9")]
    [InlineData("١٦١٤٢٦٥٣٣٠")]
    [InlineData("１６１４２６５３３０")]
    [InlineData("9223372036854775808")]
    [InlineData("18446744075323816946")]
    [InlineData("00000000001614265330")]
    public void A_timestamp_that_is_not_digits_of_64_bits_is_refused(string timestamp)
    {
        WebhookVerification result = Verify(Sample.Standard(_valid, timestamp: timestamp));

        result.Should().Be(timestamp.Length == 0 ? WebhookVerification.MissingHeader : WebhookVerification.Malformed);
    }

    [Theory]
    [InlineData(0, WebhookVerification.Valid)]
    [InlineData(300, WebhookVerification.Valid)]
    [InlineData(301, WebhookVerification.Stale)]
    [InlineData(-300, WebhookVerification.Valid)]
    [InlineData(-301, WebhookVerification.FromFuture)]
    [InlineData(1_000_000_000, WebhookVerification.Stale)]
    [InlineData(-1_000_000_000, WebhookVerification.FromFuture)]
    public void A_timestamp_is_in_time_up_to_the_tolerance_in_both_directions(int age, WebhookVerification expected)
    {
        foreach (WebhookScheme scheme in Sample.Schemes.Where(scheme => scheme.SignedContent.Contains("{timestamp}", StringComparison.Ordinal)))
        {
            Headers headers = Sample.Signer(scheme, _time, Sample.Secret).Signed(Sample.Body, timestamp: _time.GetUtcNow().AddSeconds(-age));

            Sample.Verifier(scheme, _time, Sample.Secret).Verify(headers, Sample.Body).Should().Be(expected);
        }
    }

    [Fact]
    public void Time_goes_on_after_2038_and_the_tolerance_is_an_option()
    {
        _time.SetUtcNow(DateTimeOffset.FromUnixTimeSeconds(4_294_967_296 + 5));
        WebhookVerifierOptions options = Sample.VerifierOptions(WebhookScheme.Stripe, Sample.Secret);
        options.Tolerance = TimeSpan.FromSeconds(4);
        Headers headers = Sample.Signer(WebhookScheme.Stripe, _time, Sample.Secret).Signed(Sample.Body, timestamp: DateTimeOffset.FromUnixTimeSeconds(4_294_967_296));

        Sample.Verifier(WebhookScheme.Stripe, _time, Sample.Secret).Verify(headers, Sample.Body).Should().Be(WebhookVerification.Valid);
        new WebhookVerifier(options, _time).Verify(headers, Sample.Body).Should().Be(WebhookVerification.Stale);
    }

    [Theory]
    [InlineData("9223372036854775807")]
    [InlineData("253402300800")]
    public void A_timestamp_beyond_the_calendar_is_from_the_future(string timestamp)
    {
        WebhookVerification result = Verify(Sample.Standard(_valid, timestamp: timestamp));

        result.Should().Be(WebhookVerification.FromFuture);
    }

    /// <summary>With a dot in it, <c>id.timestamp.body</c> could be cut elsewhere: the same bytes would be another message.</summary>
    [Fact]
    public void An_id_with_a_dot_is_refused_though_its_signature_is_right()
    {
        string id = "msg.1614265330";
        Headers headers = Sample.Standard("v1," + Sample.Mac(Sample.Secret, id, Sample.Seconds, Sample.Body), id);

        WebhookVerification result = Verify(headers);

        result.Should().Be(WebhookVerification.Malformed);
    }

    [Theory]
    [InlineData("a b")]
    [InlineData(" msg")]
    [InlineData("msg\n")]
    [InlineData("m\0sg")]
    [InlineData("mäg")]
    [InlineData("msg\u212A")]
    public void An_id_that_is_not_visible_ASCII_is_refused_though_its_signature_is_right(string id)
    {
        WebhookVerification result = Verify(Sample.Standard("v1," + Sample.Mac(Sample.Secret, id, Sample.Seconds, Sample.Body), id));

        result.Should().Be(WebhookVerification.Malformed);
    }

    [Fact]
    public void The_id_and_the_time_are_signed()
    {
        WebhookVerification otherId = Verify(Sample.Standard(_valid, "msg_other"));
        WebhookVerification otherTime = Verify(Sample.Standard(_valid, timestamp: "1614265331"));
        WebhookVerification zeros = Verify(Sample.Standard(_valid, timestamp: "01614265330"));

        (otherId, otherTime, zeros).Should().Be((WebhookVerification.BadSignature, WebhookVerification.BadSignature, WebhookVerification.BadSignature));
    }

    [Fact]
    public void A_list_may_have_blanks_around_its_entries_and_nothing_else()
    {
        string mac = _valid[3..];
        string[] accepted = [_valid, $"  {_valid}  ", $"v1,x {_valid}", $"{_valid}\t"];
        string[] refused =
        [
            "V1," + mac, "v1=" + mac, "v1", "v1,", ",", " ", mac, "v1, " + mac, "v1,v1," + mac, "v11," + mac, $"{_wrong},{_valid}", $"{_valid},{_valid}", "v1," + mac + "=", "v1," + mac[..^1], "v1," + mac[..20] + "\n" + mac[20..],
            "v1," + mac.Replace('+', '-').Replace('/', '_'), "v1,\"" + mac + "\"", "v1," + Convert.ToHexStringLower(Convert.FromBase64String(mac)), "v1a," + mac,
        ];

        accepted.Should().AllSatisfy(list => Verify(Sample.Standard(list)).Should().Be(WebhookVerification.Valid));
        refused.Should().AllSatisfy(list => Verify(Sample.Standard(list)).Should().NotBe(WebhookVerification.Valid));
    }

    [Fact]
    public void Base64_with_unused_bits_set_is_malformed()
    {
        const string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        char last = _valid[^2];
        string same = _valid[..^2] + alphabet[alphabet.IndexOf(last, StringComparison.Ordinal) + 1] + "=";
        Convert.FromBase64String(same[3..]).Should().Equal(Convert.FromBase64String(_valid[3..]), "the framework reads both");

        WebhookVerification result = Verify(Sample.Standard(same));

        result.Should().Be(WebhookVerification.Malformed);
    }

    [Theory]
    [InlineData("GitHub")]
    [InlineData("Slack")]
    [InlineData("Shopify")]
    public void A_scheme_with_one_signature_takes_one(string scheme)
    {
        WebhookScheme described = Named(scheme);
        Headers headers = Sample.Signer(described, _time, Sample.Secret).Signed(Sample.Body);
        WebhookVerifier verifier = Sample.Verifier(described, _time, Sample.Secret);
        string signature = headers[described.SignatureHeader];
        string[] refused = [signature + "," + signature, signature + " " + signature, " " + signature, signature + " ", signature + "00", signature[..^1], "x" + signature, described.SignaturePrefix];

        foreach (string list in refused)
        {
            headers[described.SignatureHeader] = list;

            verifier.Verify(headers, Sample.Body).Should().Be(list.Length == 0 ? WebhookVerification.MissingHeader : WebhookVerification.Malformed);
        }
    }

    [Fact]
    public void Hexadecimal_is_read_in_both_cases_and_a_prefix_in_one()
    {
        Headers headers = Sample.Signer(WebhookScheme.GitHub, _time, Sample.Secret).Signed(Sample.Body);
        WebhookVerifier verifier = Sample.Verifier(WebhookScheme.GitHub, _time, Sample.Secret);
        string digits = headers["X-Hub-Signature-256"]["sha256=".Length..];

        headers["X-Hub-Signature-256"] = "sha256=" + digits.ToUpperInvariant();
        WebhookVerification upperDigits = verifier.Verify(headers, Headers.Read, Sample.Body, out WebhookMessage upper);
        headers["X-Hub-Signature-256"] = "sha256=" + digits;
        verifier.Verify(headers, Headers.Read, Sample.Body, out WebhookMessage lower);
        headers["X-Hub-Signature-256"] = "SHA256=" + digits;
        WebhookVerification upperPrefix = verifier.Verify(headers, Sample.Body);

        (upperDigits, upperPrefix).Should().Be((WebhookVerification.Valid, WebhookVerification.Malformed));
        upper.ReplayKey.Should().Be(lower.ReplayKey, "another spelling is not another message");
    }

    [Theory]
    [InlineData("t=1614265330,t=1614265330,")]
    [InlineData("t=1,t=1614265330,")]
    [InlineData("t=,t=1614265330,")]
    [InlineData("t=1614265330,v1=00,t=1,")]
    public void Two_timestamps_in_one_header_are_malformed(string beginning)
    {
        Headers headers = Sample.Signer(WebhookScheme.Stripe, _time, Sample.Secret).Signed(Sample.Body);
        headers["Stripe-Signature"] = headers["Stripe-Signature"].Replace("t=1614265330,", beginning, StringComparison.Ordinal);

        WebhookVerification result = Sample.Verifier(WebhookScheme.Stripe, _time, Sample.Secret).Verify(headers, Sample.Body);

        result.Should().Be(WebhookVerification.Malformed);
    }

    [Fact]
    public void A_header_of_a_megabyte_and_a_thousand_signatures_are_refused_unread()
    {
        string megabyte = new('v', 1 << 20);
        string thousand = string.Join(' ', Enumerable.Repeat(_wrong, 999).Append(_valid));
        string thirtyThree = string.Join(' ', Enumerable.Repeat("v1,", 32).Append(_valid));
        string thirtyTwo = string.Join(' ', Enumerable.Repeat("v1,", 31).Append(_valid));

        Verify(Sample.Standard(megabyte)).Should().Be(WebhookVerification.HeaderTooLarge);
        Verify(Sample.Standard(_valid, id: megabyte)).Should().Be(WebhookVerification.HeaderTooLarge);
        Verify(Sample.Standard(_valid, timestamp: megabyte)).Should().Be(WebhookVerification.HeaderTooLarge);
        Verify(Sample.Standard(thousand)).Should().Be(WebhookVerification.HeaderTooLarge);
        Verify(Sample.Standard(thirtyThree)).Should().Be(WebhookVerification.HeaderTooLarge);
        Verify(Sample.Standard(thirtyTwo)).Should().Be(WebhookVerification.Valid);
        Verify(Sample.Standard(_valid, id: new string('a', 256))).Should().Be(WebhookVerification.Malformed);
    }

    [Fact]
    public void Signatures_of_public_keys_are_unknown_ones_to_who_has_none()
    {
        string nine = string.Join(' ', Enumerable.Repeat("v1a," + Convert.ToBase64String(new byte[64]), 9));

        Verify(Sample.Standard($"{nine} {_valid}")).Should().Be(WebhookVerification.Valid);
        Verify(Sample.Standard($"{nine} {_wrong}")).Should().Be(WebhookVerification.BadSignature);
        Verify(Sample.Standard(nine)).Should().Be(WebhookVerification.BadSignature);
    }

    [Fact]
    public void Any_key_in_force_counts_and_no_other()
    {
        WebhookVerifierOptions options = Sample.VerifierOptions(WebhookScheme.StandardWebhooks);
        options.Keys.Add(new WebhookKey(Other) { Expires = Sample.Now.AddSeconds(10) });
        options.Keys.Add(new WebhookKey(Sample.Secret) { NotBefore = Sample.Now.AddSeconds(5) });
        var verifier = new WebhookVerifier(options, _time);
        (WebhookVerification Old, WebhookVerification New) Both() => (verifier.Verify(Sample.Standard(_wrong), Sample.Body), verifier.Verify(Sample.Standard(_valid), Sample.Body));

        var before = Both();
        _time.Advance(TimeSpan.FromSeconds(5));
        var overlap = Both();
        _time.Advance(TimeSpan.FromSeconds(5));
        var after = Both();

        before.Should().Be((WebhookVerification.Valid, WebhookVerification.BadSignature));
        overlap.Should().Be((WebhookVerification.Valid, WebhookVerification.Valid));
        after.Should().Be((WebhookVerification.BadSignature, WebhookVerification.Valid));
    }

    [Fact]
    public void Without_a_key_in_force_everything_is_refused_and_that_is_logged_once()
    {
        var log = new LogList();
        WebhookVerifierOptions options = Sample.VerifierOptions(WebhookScheme.GitHub);
        options.Keys.Add(new WebhookKey(Sample.Secret) { Expires = Sample.Now });
        var verifier = new WebhookVerifier(options, _time, log);
        Headers headers = Sample.Signer(WebhookScheme.GitHub, _time, Sample.Secret).Signed(Sample.Body);

        WebhookVerification[] results = [verifier.Verify(headers, Sample.Body), verifier.Verify(headers, Sample.Body)];

        results.Should().AllBeEquivalentTo(WebhookVerification.NoKeyInForce);
        log.Entries.Should().ContainSingle().Which.Message.Should().Be("Webhook verifier 'test': no key is in force; every message is refused. Look at NotBefore and Expires of Keys.");
    }

    [Fact]
    public void A_message_tells_what_was_verified()
    {
        WebhookVerifier verifier = Sample.Verifier(WebhookScheme.StandardWebhooks, _time, Sample.Secret);

        verifier.Verify(Sample.Standard(_valid), Headers.Read, Sample.Body, out WebhookMessage message);
        verifier.Verify(Sample.Standard(_wrong), Headers.Read, Sample.Body, out WebhookMessage refused);
        Func<WebhookReplayKey> key = () => refused.ReplayKey;
        Func<WebhookReplayKey> chosen = () => refused.ReplayKeyOf("evt");

        (message.IsVerified, message.Id, message.IsIdSigned, message.Timestamp, message.ReplayWindow).Should().Be((true, Sample.Id, true, Sample.Now, TimeSpan.FromSeconds(601)));
        refused.Should().Be(default(WebhookMessage));
        refused.IsVerified.Should().BeFalse();
        key.Should().Throw<InvalidOperationException>();
        chosen.Should().Throw<InvalidOperationException>();
    }

    [Fact]
    public void The_default_of_a_result_is_no_acceptance()
    {
        WebhookVerification result = default;

        result.Should().NotBe(WebhookVerification.Valid);
    }

    [Fact]
    public void A_reader_that_throws_takes_nothing_with_it()
    {
        WebhookVerifier verifier = Sample.Verifier(WebhookScheme.StandardWebhooks, _time, Sample.Secret);
        Action verify = () => verifier.Verify(0, (_, _) => throw new IOException("gone"), Sample.Body);

        verify.Should().Throw<IOException>();
        verifier.Verify(Sample.Standard(_valid), Sample.Body).Should().Be(WebhookVerification.Valid);
    }

    [Fact]
    public void A_scheme_of_your_own_is_one_object()
    {
        var scheme = new WebhookScheme
        {
            Name = "Own",
            SignatureHeader = "X-Own",
            TimestampPrefix = "ts=",
            IdHeader = "X-Own-Id",
            SignaturePrefix = "h1=",
            Separator = ';',
            SignedContent = "own|{id}|{timestamp}:{body}",
        };
        byte[] key = Encoding.UTF8.GetBytes(Sample.Secret);
        string expected = Convert.ToHexStringLower(HMACSHA256.HashData(key, (byte[])[.. "own|msg.1|1614265330:"u8, .. Sample.Body]));

        Headers headers = Sample.Signer(scheme, _time, Sample.Secret).Signed(Sample.Body, "msg.1");

        headers["X-Own"].Should().Be($"ts=1614265330;h1={expected}");
        Sample.Verifier(scheme, _time, Sample.Secret).Verify(headers, Sample.Body).Should().Be(WebhookVerification.Valid);
    }

    [Theory]
    [InlineData("th-TH")]
    [InlineData("ar-SA")]
    [InlineData("fa-IR")]
    public void Headers_are_the_same_under_every_culture(string culture)
    {
        CultureInfo before = CultureInfo.CurrentCulture;
        try
        {
            CultureInfo.CurrentCulture = CultureInfo.GetCultureInfo(culture);

            Headers headers = Sample.Signer(WebhookScheme.StandardWebhooks, _time, Sample.Secret).Signed(Sample.Body);

            headers.Should().Equal(Sample.Standard(_valid));
            Verify(headers).Should().Be(WebhookVerification.Valid);
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }
}

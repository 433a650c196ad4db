using System.Globalization;
using CsCheck;

namespace Backend.Toolkit.Webhooks.Tests;

/// <summary>Headers come over the wire: 10^5 of them for each scheme.</summary>
public sealed class FuzzTests
{
    private static readonly string[] Cultures = ["th-TH", "tr-TR", "ar-SA", ""];

    public static TheoryData<string> Schemes => [.. Sample.Schemes.Select(scheme => scheme.Name)];

    [Theory]
    [MemberData(nameof(Schemes))]
    public void Nothing_but_what_was_signed_is_valid_and_nothing_throws(string name)
    {
        WebhookScheme scheme = Sample.Schemes.Single(one => one.Name == name);
        WebhookVerifier verifier = Sample.Verifier(scheme, Sample.Time(), Sample.Secret);
        Headers signed = Sample.Signer(scheme, Sample.Time(), Sample.Secret).Signed(Sample.Body);
        string[] names = [.. signed.Keys];
        Gen<string> any = Gen.OneOf(Gen.String, Gen.String[Gen.Char, 0, 5000], Gen.String[Gen.Char["0123456789 ,=+.v1at/A\t\r\n\0٣"], 0, 60]);
        Gen<Func<string, string>> mutations = Gen.OneOf(
            any.Select(text => (Func<string, string>)(_ => text)),
            Gen.Select(Gen.Int[0, 200], Gen.Char).Select((at, character) => (Func<string, string>)(value => value[..(at % value.Length)] + character + value[((at % value.Length) + 1)..])),
            Gen.Select(Gen.Int[0, 200], any).Select((at, text) => (Func<string, string>)(value => value.Insert(at % value.Length, text))),
            Gen.Int[0, 200].Select(at => (Func<string, string>)(value => value[..(at % value.Length)])),
            any.Select(text => (Func<string, string>)(value => text + value)),
            any.Select(text => (Func<string, string>)(value => value + text)));

        Gen.Select(Gen.Int[0, names.Length - 1], mutations, Gen.Int[0, 3]).Sample((header, mutate, culture) =>
        {
            CultureInfo.CurrentCulture = CultureInfo.GetCultureInfo(Cultures[culture]);
            var headers = new Headers();
            foreach ((string key, string value) in signed)
            {
                headers[key] = key == names[header] ? mutate(value) : value;
            }

            WebhookVerification result = verifier.Verify(headers, Headers.Read, Sample.Body);
            using WebhookSession session = verifier.Begin(headers, Headers.Read);
            session.Append(Sample.Body);
            return session.Finish() == result && (result == WebhookVerification.Valid) == IsTheSame(scheme, signed, headers);
        }, iter: 100_000, threads: 1);
    }

    /// <summary>What may change without changing what was signed: an unsigned id, the case of hexadecimal, other entries of a list.</summary>
    private static bool IsTheSame(WebhookScheme scheme, Headers signed, Headers headers)
    {
        string expected = signed[scheme.SignatureHeader], actual = headers[scheme.SignatureHeader];
        bool isId = scheme.IdHeader is null || (scheme.SignedContent.Contains("{id}", StringComparison.Ordinal) ? headers[scheme.IdHeader] == signed[scheme.IdHeader]
            : headers[scheme.IdHeader].Length <= 255 && headers[scheme.IdHeader].All(character => character is > ' ' and <= '~'));
        bool isTime = scheme.TimestampHeader is null || headers[scheme.TimestampHeader] == signed[scheme.TimestampHeader];
        if (scheme.Separator is not { } separator)
        {
            return isId && isTime && SameSignature(scheme, expected, actual);
        }

        string[] entries = [.. actual.Split(separator).Select(entry => entry.Trim(' ', '\t')).Where(entry => entry.Length > 0)];
        string[] times = [.. entries.Where(entry => scheme.TimestampPrefix is { } prefix && entry.StartsWith(prefix, StringComparison.Ordinal))];
        string[] wanted = expected.Split(separator);
        return isId && isTime && actual.Length <= 4096 && entries.Length - times.Length <= 32 && (scheme.TimestampPrefix is null || times is [var time] && time == wanted[0])
            && entries.Any(entry => SameSignature(scheme, wanted[^1], entry));
    }

    private static bool SameSignature(WebhookScheme scheme, string expected, string actual) => expected == actual
        || (scheme.Encoding == WebhookEncoding.Hex && actual.StartsWith(scheme.SignaturePrefix, StringComparison.Ordinal) && actual.Length == expected.Length
            && actual[scheme.SignaturePrefix.Length..].All(char.IsAsciiHexDigit) && actual.Equals(expected, StringComparison.OrdinalIgnoreCase));
}

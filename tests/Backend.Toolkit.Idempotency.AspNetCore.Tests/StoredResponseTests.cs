using System.Globalization;
using CsCheck;
using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.Idempotency.AspNetCore.Tests;

public sealed class StoredResponseTests
{
    private static readonly string[] Names = ["Content-Type", "Link", "X-Own", "Absent"];

    public static TheoryData<string> Cultures { get; } = new("", "th-TH", "tr-TR", "ar-SA");

    [Fact]
    public void What_is_written_is_read()
    {
        Gen.Select(Gen.Byte.Array[0, 300], Gen.String[Gen.Char[' ', '\u024f'], 0, 200].Array[0, 200]).Sample((body, links) =>
        {
            var headers = new HeaderDictionary { ["Content-Type"] = "text/plain", ["Link"] = links, ["X-Own"] = "", ["Set-Cookie"] = "secret" };

            byte[] content = StoredResponse.Write(headers, Names, body);
            StoredResponse read = StoredResponse.Read(content)!;

            return read.Body.Span.SequenceEqual(body)
                && read.Headers.Count == (links.Length > 0 ? 3 : 2)
                && read.Headers.All(header => header.Value == headers[header.Key]);
        }, iter: 1_000);
    }

    [Fact]
    public void A_response_without_headers_or_body_takes_two_bytes()
    {
        byte[] content = StoredResponse.Write(new HeaderDictionary(), Names, []);

        content.Should().Equal(1, 0);
        StoredResponse.Read(content)!.Body.Length.Should().Be(0);
    }

    [Theory]
    [InlineData("")]
    [InlineData("00")]
    [InlineData("02 00")]
    [InlineData("01")]
    [InlineData("01 80")]
    [InlineData("01 ff ff ff ff 0f")]
    [InlineData("01 01")]
    [InlineData("01 01 00 01 00")]
    [InlineData("01 01 01 41")]
    [InlineData("01 01 01 41 00")]
    [InlineData("01 01 01 41 01 05 41")]
    [InlineData("01 01 01 20 01 01 41")]
    [InlineData("01 01 01 41 01 01 0d")]
    [InlineData("01 01 01 41 01 01 ff")]
    [InlineData("01 01 01 41 ff ff ff 7f")]
    public void What_is_damaged_or_of_another_version_is_not_read(string hex)
    {
        byte[] content = Convert.FromHexString(hex.Replace(" ", "", StringComparison.Ordinal));

        StoredResponse.Read(content).Should().BeNull();
    }

    [Theory]
    [MemberData(nameof(Cultures))]
    public void Any_bytes_are_read_or_not_under_any_culture(string culture)
    {
        CultureInfo before = CultureInfo.CurrentCulture;
        CultureInfo.CurrentCulture = CultureInfo.GetCultureInfo(culture);
        byte[] valid = StoredResponse.Write(new HeaderDictionary { ["Content-Type"] = "text/plain", ["Link"] = new[] { "a", "b" } }, Names, "body"u8);
        try
        {
            Gen<byte[]> mutated = Gen.Select(Gen.Int[0, valid.Length - 1], Gen.Byte, Gen.Int[0, valid.Length]).Select((at, value, length) =>
            {
                byte[] copy = [.. valid];
                copy[at] = value;
                return copy[..length];
            });
            Gen.OneOf(Gen.Byte.Array[0, 60], Gen.Byte.Array[0, 60].Select(bytes => (byte[])[1, .. bytes]), mutated).Sample(
                bytes => StoredResponse.Read(bytes) is not { } read
                    || (read.Body.Length < bytes.Length && read.Headers.Sum(header => header.Value.Count) <= bytes.Length
                        && read.Headers.All(header => header.Key.Length > 0 && header.Value.All(value => value is not null && value.IndexOfAny(['\0', '\r', '\n']) < 0))),
                iter: 25_000);
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }
}

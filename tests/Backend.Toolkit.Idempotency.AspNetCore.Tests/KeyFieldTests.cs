using System.Globalization;
using CsCheck;
using Microsoft.Extensions.Primitives;

namespace Backend.Toolkit.Idempotency.AspNetCore.Tests;

public sealed class KeyFieldTests
{
    public static TheoryData<string> Cultures { get; } = new("", "th-TH", "tr-TR", "ar-SA");

    [Theory]
    [InlineData("\"8e03978e-40d5-43e8-bc93-6894a57f9324\"", "8e03978e-40d5-43e8-bc93-6894a57f9324")]
    [InlineData("  \"a b\" ", "a b")]
    [InlineData("\"a, b; c=d\"", "a, b; c=d")]
    [InlineData("\"q\\\"b\\\\s\"", "q\"b\\s")]
    public void A_string_in_quotes_is_read_strictly_and_leniently(string value, string expected)
    {
        string? strict = IdempotencyKeyField.Problem(value, strict: true, out string strictly);
        string? lenient = IdempotencyKeyField.Problem(value, strict: false, out string leniently);

        (strict, lenient).Should().Be((null, null));
        (strictly, leniently).Should().Be((expected, expected));
    }

    [Theory]
    [InlineData("8e03978e-40d5-43e8-bc93-6894a57f9324")]
    [InlineData("{8E03978E-40D5-43E8-BC93-6894A57F9324}")]
    [InlineData("order:17/2=YWJj+/==")]
    [InlineData("*token")]
    public void A_bare_key_is_read_leniently_as_if_it_were_quoted(string value)
    {
        string? lenient = IdempotencyKeyField.Problem(value, strict: false, out string key);
        string? strict = IdempotencyKeyField.Problem(value, strict: true, out _);
        IdempotencyKeyField.Problem($"\"{value}\"", strict: true, out string quoted);

        (lenient, key).Should().Be((null, value));
        quoted.Should().Be(key);
        strict.Should().Contain("in quotes");
    }

    [Theory]
    [InlineData("")]
    [InlineData("   ")]
    [InlineData("\"\"")]
    [InlineData("\"")]
    [InlineData("\"abc")]
    [InlineData("\"abc\\")]
    [InlineData("\"abc\\\"")]
    [InlineData("\"a\\bc\"")]
    [InlineData("\"abc\"def")]
    [InlineData("\"abc\";p=1")]
    [InlineData("\"abc\", \"def\"")]
    [InlineData("\"a\u0007c\"")]
    [InlineData("\"a\u007fc\"")]
    [InlineData("\"a\u00e4c\"")]
    [InlineData("\"a\ud83d\ude00c\"")]
    [InlineData("abc def")]
    [InlineData("abc,def")]
    [InlineData("abc;p=1")]
    [InlineData("abc\"")]
    [InlineData("a\\c")]
    [InlineData("a\tc")]
    [InlineData("\u00e4")]
    public void What_is_no_key_is_refused_with_a_sentence_that_does_not_repeat_it(string value)
    {
        string? problem = IdempotencyKeyField.Problem(value, strict: false, out _);
        string? strict = IdempotencyKeyField.Problem(value, strict: true, out _);

        problem.Should().NotBeNull().And.EndWith(".").And.NotContain("abc");
        strict.Should().NotBeNull();
    }

    [Fact]
    public void A_key_has_at_most_255_characters_escapes_not_counted()
    {
        string quotes = string.Concat(Enumerable.Repeat("\\\"", 255));

        IdempotencyKeyField.Problem(new string('k', 255), strict: false, out string bare).Should().BeNull();
        IdempotencyKeyField.Problem($"\"{quotes}\"", strict: true, out string escaped).Should().BeNull();
        string? longer = IdempotencyKeyField.Problem(new string('k', 256), strict: false, out _);
        string? muchLonger = IdempotencyKeyField.Problem(new string('k', 10_240), strict: false, out _);

        (bare.Length, escaped).Should().Be((255, new string('"', 255)));
        longer.Should().Contain("256");
        muchLonger.Should().Contain("10240");
    }

    [Fact]
    public void Two_lines_are_refused_even_when_they_say_the_same()
    {
        string? problem = IdempotencyKeyField.Problem(new StringValues(["a", "a"]), strict: false, out _);

        problem.Should().Be("The header must come once, but comes 2 times.");
    }

    /// <summary>The bare form, and quoting followed by reading, are the identity; anything else is a key of the right form or a sentence.</summary>
    [Theory]
    [MemberData(nameof(Cultures))]
    public void Any_text_is_a_key_or_a_sentence_under_any_culture(string culture)
    {
        CultureInfo before = CultureInfo.CurrentCulture;
        CultureInfo.CurrentCulture = CultureInfo.GetCultureInfo(culture);
        try
        {
            Gen<string> nearly = Gen.String[Gen.Char["ab1-=,;\\\" \t\u0000\u00e4"], 0, 12];
            Gen.OneOf(Gen.String, nearly, nearly.Select(text => $"\"{text}\"")).Sample(
                text =>
                {
                    bool lenient = IdempotencyKeyField.Problem(text, strict: false, out string key) is null;
                    bool strict = IdempotencyKeyField.Problem(text, strict: true, out string strictly) is null;
                    bool fine = key.Length is > 0 and <= 255 && key.All(c => c is >= ' ' and <= '~');
                    string again = $"\"{key.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal)}\"";
                    return (!strict || (lenient && strictly == key))
                        && (!lenient || (fine && IdempotencyKeyField.Problem(again, strict: true, out string read) is null && read == key));
                },
                iter: 25_000);
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }
}

using System.Reflection;
using System.Runtime.CompilerServices;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>What packages that know nothing of each other have in common: executors, constructors, registrations, options.</summary>
public sealed class ShapeTests
{
    private static string[] ExecuteAsync { get; } =
    [
        "ValueTask<TResult> ExecuteAsync<TState, TResult>(Func<TState, CancellationToken, ValueTask<TResult>> action, TState state, CancellationToken cancellationToken = default)",
        "ValueTask<TResult> ExecuteAsync<TResult>(Func<CancellationToken, ValueTask<TResult>> action, CancellationToken cancellationToken = default)",
        "ValueTask ExecuteAsync(Func<CancellationToken, ValueTask> action, CancellationToken cancellationToken = default)",
    ];

    [Fact]
    public void Every_executor_has_the_three_overloads_and_their_twins_for_tasks()
    {
        Type[] executors = Executors();

        IEnumerable<string> missing = executors.SelectMany(executor => ExecuteAsync.Concat(ExecuteAsync.Select(TaskTwin))
            .Except(Overloads(executor).Select(Signature.Of))
            .Select(signature => $"{executor.Name}: {signature}"));

        executors.Should().HaveCountGreaterThanOrEqualTo(3);
        missing.ShouldBeNone();
    }

    [Fact]
    public void Every_overload_of_an_executor_takes_an_action_first_and_an_optional_token_last()
    {
        IEnumerable<MethodInfo> overloads = Executors().SelectMany(Overloads);

        IEnumerable<string> offenders = overloads
            .Where(overload => overload.GetParameters() is not [{ Name: "action" }, .., { Name: "cancellationToken", IsOptional: true }])
            .Select(overload => $"{overload.DeclaringType!.Name}: {Signature.Of(overload)}");

        offenders.ShouldBeNone();
    }

    [Fact]
    public void Every_overload_for_value_tasks_has_a_twin_for_tasks()
    {
        MethodInfo[] overloads = [.. Executors().SelectMany(Overloads).Where(IsForValueTasks)];

        IEnumerable<string> missing = overloads
            .Where(overload => !Overloads(overload.DeclaringType!).Select(Signature.Of).Contains(TaskTwin(Signature.Of(overload))))
            .Select(overload => $"{overload.DeclaringType!.Name}: {TaskTwin(Signature.Of(overload))}");

        overloads.Should().HaveCountGreaterThanOrEqualTo(9);
        missing.ShouldBeNone();
    }

    [Fact]
    public void The_compiler_prefers_the_overloads_for_value_tasks()
    {
        IEnumerable<MethodInfo> overloads = Executors().SelectMany(Overloads);

        IEnumerable<string> offenders = overloads
            .Where(overload => (overload.GetCustomAttribute<OverloadResolutionPriorityAttribute>()?.Priority ?? 0) != (IsForValueTasks(overload) ? 1 : 0))
            .Select(overload => $"{overload.DeclaringType!.Name}: {Signature.Of(overload)}");

        offenders.ShouldBeNone("an async lambda fits both, and the one without an allocation wins");
    }

    [Fact]
    public void What_takes_options_takes_a_time_provider_and_perhaps_a_logger_after_them_and_needs_neither()
    {
        ConstructorInfo[] constructors = [.. Repository.Leaves.SelectMany(leaf => leaf.PublicTypes)
            .SelectMany(type => type.GetConstructors())
            .Where(constructor => constructor.GetParameters() is [{ Name: "options" }, ..])];

        IEnumerable<string> offenders = constructors
            .Where(constructor => constructor.GetParameters() is not ([_, { Name: "timeProvider", IsOptional: true }] or [_, { Name: "timeProvider", IsOptional: true }, { Name: "logger", IsOptional: true }])
                || constructor.GetParameters()[1].ParameterType != typeof(TimeProvider))
            .Select(Signature.Of);

        constructors.Should().HaveCountGreaterThanOrEqualTo(3);
        offenders.ShouldBeNone();
    }

    [Fact]
    public void Every_service_of_a_leaf_is_added_with_and_without_a_name_and_with_the_container_at_hand()
    {
        IGrouping<(string Name, string Options), MethodInfo>[] families = [.. Repository.Leaves.SelectMany(leaf => leaf.Registrations)
            .Where(method => method.GetParameters()[0].ParameterType == typeof(IServiceCollection) && OptionsOf(method) is not null)
            .GroupBy(method => (method.Name, Signature.Of(OptionsOf(method)!)))];

        IEnumerable<string> missing = families.SelectMany(family =>
        {
            string generic = family.First().IsGenericMethod ? $"<{string.Join(", ", family.First().GetGenericArguments().Select(Signature.Of))}>" : "";
            string head = $"IServiceCollection {family.Key.Name}{generic}(IServiceCollection services, ";
            string options = family.Key.Options;
            ParameterInfo? selector = family.First().GetParameters().FirstOrDefault(parameter => parameter.Name == "keySelector");
            string key = selector is null ? "" : $"{Signature.Of(selector.ParameterType)} keySelector, ";
            string[] needed =
            [
                $"{head}{key}Action<{options}> configure = null)",
                $"{head}{key}Action<{options}, IServiceProvider> configure)",
                $"{head}string name, {key}Action<{options}> configure = null)",
                $"{head}string name, {key}Action<{options}, IServiceProvider> configure)",
            ];
            return needed.Except(family.Select(Signature.Of));
        });

        families.Should().HaveCountGreaterThanOrEqualTo(3);
        missing.ShouldBeNone();
    }

    [Fact]
    public void All_options_tell_their_problems_and_have_a_name()
    {
        Type[] options = [.. Repository.Packages.SelectMany(package => package.OptionsTypes)];

        IEnumerable<string> offenders = options
            .Where(type => type.GetMethod("Problems", [])?.ReturnType != typeof(IEnumerable<string>) || type.GetProperty("Name")?.PropertyType != typeof(string))
            .Select(type => type.FullName!);

        options.Should().HaveCountGreaterThanOrEqualTo(3);
        offenders.ShouldBeNone();
    }

    [Fact]
    public void A_public_class_is_sealed_unless_another_public_class_derives_from_it()
    {
        Type[] classes = [.. Repository.Packages.SelectMany(package => package.PublicTypes).Where(type => type.IsClass && !type.IsAssignableTo(typeof(Delegate)))];

        IEnumerable<string> offenders = classes
            .Where(type => !type.IsSealed && !classes.Any(other => other.BaseType is { } parent && (parent.IsGenericType ? parent.GetGenericTypeDefinition() : parent) == type))
            .Select(type => type.FullName!);

        classes.Should().HaveCountGreaterThanOrEqualTo(9);
        offenders.ShouldBeNone();
    }

    /// <summary>What executes a plain action. What asks for a key first is no lambda to nest in others.</summary>
    private static Type[] Executors() => [.. Repository.Leaves.SelectMany(leaf => leaf.PublicTypes).Where(type => Overloads(type).Any()
        && !Overloads(type).All(overload => overload.GetParameters() is [{ Name: "key" }, ..]))];

    private static IEnumerable<MethodInfo> Overloads(Type type) => type.GetMethods().Where(method => method.Name == nameof(ExecuteAsync));

    /// <summary>The same overload for an action that returns a task: people pass <c>ct => client.GetAsync(url, ct)</c>.</summary>
    private static string TaskTwin(string signature)
    {
        int delegateAt = signature.IndexOf("(Func<", StringComparison.Ordinal);
        return signature[..delegateAt] + signature[delegateAt..].Replace("ValueTask", "Task", StringComparison.Ordinal);
    }

    private static bool IsForValueTasks(MethodInfo overload)
    {
        Type returned = overload.GetParameters()[0].ParameterType.GetGenericArguments()[^1];
        return returned == typeof(ValueTask) || (returned.IsGenericType && returned.GetGenericTypeDefinition() == typeof(ValueTask<>));
    }

    private static Type? OptionsOf(MethodInfo method) => method.GetParameters()
        .Select(parameter => parameter.ParameterType)
        .Where(type => type.IsGenericType && type.Name.StartsWith("Action`", StringComparison.Ordinal))
        .Select(type => type.GetGenericArguments()[0])
        .FirstOrDefault(type => type.Name.Split('`')[0].EndsWith("Options", StringComparison.Ordinal));
}

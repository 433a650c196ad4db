using System.Reflection;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>Members as one would write them, so that a rule can be read beside them.</summary>
internal static class Signature
{
    public static string Of(MethodInfo method)
    {
        string generic = method.IsGenericMethod ? $"<{string.Join(", ", method.GetGenericArguments().Select(Of))}>" : "";
        return $"{Of(method.ReturnType)} {method.Name}{generic}({Of(method.GetParameters())})";
    }

    public static string Of(ConstructorInfo constructor) => $"{Of(constructor.DeclaringType!)}({Of(constructor.GetParameters())})";

    public static string Of(Type type) =>
        type.IsGenericType ? $"{type.Name.Split('`')[0]}<{string.Join(", ", type.GetGenericArguments().Select(Of))}>" : type == typeof(string) ? "string" : type.Name;

    private static string Of(ParameterInfo[] parameters) => string.Join(", ", parameters.Select(parameter =>
        $"{Of(parameter.ParameterType)} {parameter.Name}{(!parameter.HasDefaultValue ? "" : parameter.ParameterType.IsValueType ? " = default" : " = null")}"));
}
